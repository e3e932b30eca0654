#!/usr/bin/env bash
# Training images a second against PyTorch and Brevitas; arguments go to bench/train_peers.py.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh bench
. scripts/environment.sh
cargo build --release --locked -p dyadic-worker
.venv-bench/bin/python bench/train_peers.py --archive "$CIFAR10_ARCHIVE" \
    --worker "${CARGO_TARGET_DIR:-target}/release/dyadic-worker" "$@"
