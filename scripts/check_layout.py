"""Checks what keeps the crates apart: who may import whom, where SQL and `unsafe` may stand, how long a file may be.

The table is docs/architecture.md's. proto/tests/imports.rs checks the table of imports as well, so that `cargo test` alone sees it.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ["proto", "graph", "plan", "data", "engine", "store", "server", "worker", "client"]
PACKAGES = {folder: "dyadic-cli" if folder == "client" else f"dyadic-{folder}" for folder in OURS}
# What a crate may import of ours.
MAY = {
    "proto": set(),
    "graph": set(),
    "plan": {"graph", "engine"},
    "data": set(),
    "engine": set(),
    "store": set(),
    "server": {"proto", "graph", "plan", "data", "engine", "store"},
    "worker": {"graph", "plan", "data", "engine", "store"},
    "client": {"proto", "data"},
}
# Foreign crates that only these of ours may name as a dependency.
ONLY = {
    "tonic": {"proto", "server", "client"},
    "sqlx": {"store"},
    "tch": {"worker"},
    "torch-sys": {"worker"},
    "tokio": {"store", "server", "worker", "client"},
}
# What must not even come in by way of others.
NEVER_BELOW = {
    "server": {"torch-sys", "tch"},
    "client": {"torch-sys", "sqlx"},
    "graph": {"tokio"},
    "plan": {"tokio", "torch-sys", "sqlx"},
    "data": {"tokio", "torch-sys", "sqlx"},
    "engine": {"tokio"},
}

SQL = re.compile(r'"\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|DATABASE)|LISTEN\s+\w)', re.S)
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root|home)/|\.\./shared/")
LINES, KERNEL_LINES = 600, 800


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def imports():
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--no-deps", "--locked"))
    folders = {name: folder for folder, name in PACKAGES.items()}
    for package in metadata["packages"]:
        folder = folders[package["name"]]
        for dependency in package["dependencies"]:
            name = dependency["name"]
            # Tests may use the async runtime, never one of ours that the table forbids.
            if name in folders and name != package["name"] and folders[name] not in MAY[folder]:
                yield f"{folder}/Cargo.toml: {folder} must not import {folders[name]}"
            family = "tonic" if name.startswith("tonic") and dependency["kind"] is None else name
            if family in ONLY and folder not in ONLY[family] and dependency["kind"] is None:
                yield f"{folder}/Cargo.toml: {name} belongs to {', '.join(sorted(ONLY[family]))}"
    for folder, forbidden in NEVER_BELOW.items():
        listed = cargo("tree", "--package", PACKAGES[folder], "--edges", "normal", "--prefix", "none", "--locked", "--format", "{p}")
        below = {line.split()[0] for line in listed.splitlines() if line.strip()}
        for name in sorted(below & forbidden):
            yield f"{folder}: {name} is among all that it depends on"


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def rust_sources():
    for name in tracked("*.rs"):
        text = (ROOT / name).read_text()
        folder = name.split("/")[0]
        limit = KERNEL_LINES if name.startswith("engine/src/kernels/") else LINES
        if (count := text.count("\n")) > limit:
            yield f"{name}: {count} lines, the limit is {limit}"
        if name.endswith("/mod.rs"):
            yield f"{name}: modules stand in foo.rs beside foo/"
        code = re.sub(r"//[^\n]*", "", text)
        if folder != "store" and SQL.search(code):
            yield f"{name}: SQL text outside store/"
        # A test may count allocations, which takes an unsafe trait; what ships may not.
        shipped = "/tests/" not in name and not name.startswith("engine/src/kernels/")
        if shipped and re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)", code):
            yield f"{name}: unsafe outside engine/src/kernels/"


def texts():
    for name in tracked("*.rs", "*.py", "*.sh", "*.sql", "*.toml", "*.md", "*.yml", "*.yaml", "*.proto", "Makefile", ".ci/*"):
        if name == "scripts/check_layout.py" or name.startswith("deploy/"):
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if MACHINE_PATH.search(line):
                yield f"{name}:{number}: a path of one machine"


def main():
    faults = [fault for check in (imports, rust_sources, texts) for fault in check()]
    print("\n".join(faults) if faults else "layout: every rule holds")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
