"""Checks docker-compose.yml and the container files without a container engine: what they name exists, is pinned, and is not open.

Where Docker's compose plugin is installed, it reads the file too.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMPOSE = "docker-compose.yml"
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", re.I)


# Every image that anything here is made from: its project, and the licence of what we take from it.
IMAGES = {
    "debian": ("Debian, https://www.debian.org", "free software of many licences (DFSG)"),
    "dxflrs/garage": ("Garage, https://garagehq.deuxfleurs.fr", "AGPL-3.0-only; a program that runs beside ours, never linked"),
    "postgres": ("PostgreSQL, https://www.postgresql.org", "PostgreSQL"),
    "rust": ("Rust, https://www.rust-lang.org", "MIT OR Apache-2.0"),
}


def settings():
    """Every environment variable that our programs read by a flag's `env`."""
    sources = [p for crate in ("server", "worker", "client") for p in (ROOT / crate / "src").rglob("*.rs")]
    return set(re.findall(r'env\s*=\s*"(\w+)"', "\n".join(p.read_text() for p in sources)))


def pinned(image):
    _, _, tag = image.partition("@")[0].rpartition(":")
    return ":" in image and tag != "latest" and any(c.isdigit() for c in tag)


def images(compose, dockerfiles):
    """Every image that is named, by where."""
    for name, it in compose["services"].items():
        if "image" in it:
            yield it["image"], f"{COMPOSE}: {name}"
    for path, text in dockerfiles.items():
        stages = re.findall(r"^FROM \S+ AS (\S+)", text, re.M)
        yield from ((image, path) for image in re.findall(r"^FROM (\S+)", text, re.M) if image not in stages)


def project(image):
    """Project and licence; None for an image that is not listed."""
    return IMAGES.get(re.split("[:@]", image.removeprefix("docker.io/").removeprefix("library/"))[0])


def service(name, it, compose, dockerfiles):
    if unknown := set(it) - SERVICE_KEYS:
        yield f"unknown keys {sorted(unknown)}"
    if ("image" in it) == ("build" in it):
        yield "needs either an image or a build"
    if "image" in it and not pinned(it["image"]):
        yield f"image {it['image']} is not pinned"
    if "build" in it and it["build"].get("dockerfile") not in dockerfiles:
        yield f"builds from {it['build'].get('dockerfile')}, which is not there"
    for key, value in it.get("environment", {}).items():
        if not isinstance(value, str):
            yield f"{key} must be quoted: {value!r}"
        if SECRET.search(key) and not key.endswith("_FILE"):
            yield f"{key} holds a secret; pass it as {key}_FILE"
        if key.endswith("_FILE") and pathlib.PurePosixPath(value).name not in it.get("secrets", []):
            yield f"{key} names {value}, which is no secret of this service"
        if key.startswith("DYADIC_") and key not in settings():
            yield f"{key} is no setting of ours"
    for secret in it.get("secrets", []):
        if secret not in compose["secrets"]:
            yield f"unknown secret {secret}"
    for port in it.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            yield f"port {port} is published beyond this machine"
    for volume in it.get("volumes", []):
        if volume.split(":")[0] not in compose["volumes"]:
            yield f"unknown volume {volume}"
    for other, how in it.get("depends_on", {}).items():
        target = compose["services"].get(other)
        if target is None or how.get("condition") not in CONDITIONS:
            yield f"depends on {other}, {how}"
        elif how["condition"] == "service_healthy" and "healthcheck" not in target and "build" not in target:
            yield f"waits for the health of {other}, which has no health check"


def dockerfile(text):
    lines = re.sub(r"\\\n", " ", text).splitlines()
    words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    stages = [line[3] for line in words if line[0] == "FROM" and len(line) > 3]
    last = max(i for i, line in enumerate(words) if line[0] == "FROM")
    for line in words:
        if line[0] == "FROM" and not pinned(line[1]):
            yield f"{line[1]} is not pinned"
        if line[0] == "COPY":
            source = next((w.partition("=")[2] for w in line if w.startswith("--from=")), None)
            if source is not None and source not in stages:
                yield f"copies from {source}, which is no stage"
            if source is None:
                yield from (f"copies {w}, which is not there" for w in line[1:-1] if not (ROOT / w).exists())
    final = {line[0]: line[1] for line in words[last:] if len(line) > 1}
    if final.get("USER") in (None, "0", "root"):
        yield "runs as root"
    for needed in ("HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"):
        if needed not in final:
            yield f"has no {needed}"
    built = re.findall(r"-p (\S+)", text)
    names = {p.read_text().split('name = "')[1].split('"')[0] for p in ROOT.glob("*/Cargo.toml")}
    yield from (f"builds {name}, which is no crate" for name in built if name not in names)


def main():
    compose = yaml.safe_load((ROOT / COMPOSE).read_text())
    files = {f"deploy/{p.name}": p.read_text() for p in (ROOT / "deploy").glob("*.Dockerfile")}
    faults = [f"{path}: {fault}" for path, text in files.items() for fault in dockerfile(text)]
    for name, it in compose["services"].items():
        faults += [f"{COMPOSE}: {name}: {fault}" for fault in service(name, it, compose, files)]
    used = sorted(set(images(compose, files)))
    faults += [f"{where}: {image} is of no project that IMAGES in deploy/check.py lists" for image, where in used if not project(image)]
    made = (ROOT / "deploy/make-secrets.sh").read_text()
    for name, secret in compose["secrets"].items():
        if secret != {"file": f"deploy/secrets/{name}"} or name not in made:
            faults.append(f"{COMPOSE}: secret {name} is not one that deploy/make-secrets.sh makes")
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        read = subprocess.run(["docker", "compose", "-f", COMPOSE, "config", "-q"], cwd=ROOT, capture_output=True, text=True)
        if read.returncode:
            faults.append(read.stderr.strip())
    for image in dict.fromkeys(image for image, _ in used if project(image)):
        print(f"deploy: {image.partition('@')[0]}: {'; '.join(project(image))}")
    print("\n".join(faults) if faults else "deploy: everything named is there, pinned and closed")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
