#!/usr/bin/env bash
# Inference time against ONNX Runtime, OpenVINO and LiteRT on seven networks: bench/peers.sh [arguments of bench/peers.py]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh bench
. scripts/environment.sh
cargo build --release --locked -p dyadic-engine -p dyadic-worker --features dyadic-engine/cli
.venv-bench/bin/python bench/peers.py --engine "${CARGO_TARGET_DIR:-target}/release/dyadic-engine" \
    --worker "${CARGO_TARGET_DIR:-target}/release/dyadic-worker" "$@"
