#!/usr/bin/env bash
# Lays out a CPU libtorch 2.13.0 from PyTorch's own wheels: scripts/libtorch.sh FOLDER
# The two CUDA libraries are there because libtorch_cpu.so of the default wheel names them; nothing calls them without
# libtorch_cuda.so, which is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$1
parent=$(dirname "$target")
mkdir -p "$parent"
work=$(mktemp -d "$parent/.libtorch.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "libtorch.sh knows wheels for Linux on x86-64 only; set LIBTORCH to a libtorch 2.13.0 of your own" >&2
    exit 1
fi

echo "  fetching the torch wheel (530 MB) and two small ones"
mkdir "$work/wheels"
"$PWD/.venv/bin/python" -m pip download --quiet --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 311 --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux2014_x86_64 --dest "$work/wheels" -r scripts/libtorch-wheels.txt

echo "  unpacking"
"$PWD/.venv/bin/python" - "$work/wheels" "$work/libtorch" <<'PY'
import pathlib
import shutil
import sys
import zipfile

wheels, target = map(pathlib.Path, sys.argv[1:])
libraries = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
(target / "lib").mkdir(parents=True)
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = pathlib.PurePosixPath(entry.filename)
            if entry.is_dir():
                continue
            if path.parts[:2] == ("torch", "include"):
                place = target.joinpath(*path.parts[1:])
            elif path.name in libraries and "lib" in path.parts:
                place = target / "lib" / path.name
            else:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, place.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
missing = libraries - {path.name for path in (target / "lib").iterdir()}
if missing:
    sys.exit(f"the wheels hold no {', '.join(sorted(missing))}")
(target / "build-version").write_text("2.13.0+cpu\n")
PY

# tch links `-ltorch`; the wheel's own libtorch.so would pull in CUDA.
cc -shared -x c /dev/null -o "$work/libtorch/lib/libtorch.so" -Wl,--no-as-needed "-L$work/libtorch/lib" \
    -l:libtorch_cpu.so "-Wl,-rpath,\$ORIGIN" -Wl,--unresolved-symbols=ignore-all

rm -rf "$target"
mv "$work/libtorch" "$target"
