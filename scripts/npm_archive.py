"""Fetches one npm package's archive: npm_archive.py NAME@VERSION SHA256 TARGET

By `npm pack` where npm is installed, else from the registry that npm would ask: NPM_CONFIG_REGISTRY, `registry=` in ~/.npmrc, or
the public one, with the credentials and the certificates that ~/.npmrc names for it.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

PUBLIC = "https://registry.npmjs.org/"


def settings():
    """What ~/.npmrc says, with ${NAME} taken from the environment."""
    path = pathlib.Path(os.environ.get("NPM_CONFIG_USERCONFIG") or pathlib.Path.home() / ".npmrc")
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        key, separator, value = line.partition("=")
        if separator and not line.lstrip().startswith(("#", ";")):
            value = re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], ""), value.strip().strip('"'))
            found[key.strip()] = value
    return found


def credentials(config, url):
    """The Authorization header that the configuration has for this address, if any."""
    parts = urllib.parse.urlsplit(url)
    path = parts.path
    while True:
        scope = f"//{parts.netloc}{path.rstrip('/')}/:"
        if token := config.get(scope + "_authToken"):
            return f"Bearer {token}"
        if basic := config.get(scope + "_auth"):
            return f"Basic {basic}"
        if (user := config.get(scope + "username")) and (password := config.get(scope + "_password")):
            pair = f"{user}:{base64.b64decode(password).decode()}"
            return "Basic " + base64.b64encode(pair.encode()).decode()
        if not path.strip("/"):
            return None
        path = path.rstrip("/").rpartition("/")[0]


def open_url(config, context, url):
    request = urllib.request.Request(url)
    if header := credentials(config, url):
        # Unredirected: a registry that redirects to a file store must not hand the credentials on.
        request.add_unredirected_header("Authorization", header)
    return urllib.request.urlopen(request, timeout=60, context=context)


def by_registry(name, version, target):
    config = settings()
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or os.environ.get("npm_config_registry")
    registry = (registry or config.get("registry") or PUBLIC).rstrip("/") + "/"
    context = ssl.create_default_context()
    if authority := os.environ.get("NODE_EXTRA_CA_CERTS") or config.get("cafile"):
        context.load_verify_locations(authority)
    with open_url(config, context, registry + urllib.parse.quote(name, safe="@")) as reply:
        address = json.load(reply)["versions"][version]["dist"]["tarball"]
    with open_url(config, context, address) as reply, target.open("wb") as out:
        shutil.copyfileobj(reply, out, 1 << 20)


def by_npm(name, version, target):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = pathlib.Path(folder).glob("*.tgz")
        shutil.move(archive, target)


def main():
    package, expected, target = sys.argv[1:]
    name, _, version = package.rpartition("@")
    target = pathlib.Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    (by_npm if shutil.which("npm") else by_registry)(name, version, partial)
    with partial.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        partial.unlink()
        sys.exit(f"{package}: sha256 {actual}, expected {expected}")
    partial.rename(target)


if __name__ == "__main__":
    main()
