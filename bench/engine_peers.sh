#!/usr/bin/env bash
# Inference time against ONNX Runtime and OpenVINO: bench/engine_peers.sh ARTIFACT [arguments of bench/engine_peers.py]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n 2p "$0" >&2; exit 2; }
scripts/setup.sh bench
. scripts/environment.sh
cargo build --release --locked -p dyadic-engine --features dyadic-engine/cli
.venv-bench/bin/python bench/engine_peers.py --engine "${CARGO_TARGET_DIR:-target}/release/dyadic-engine" "$@"
