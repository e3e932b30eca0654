#!/usr/bin/env bash
# Everything in docs/benchmarks.md that can be measured on one machine; hours, most of them training.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
cargo bench --locked -p dyadic-engine --bench kernels
bench/accuracy.sh
bench/train_peers.sh
bench/peers.sh
bench/peers.sh --isa avx512_vnni --networks resnet20,vgg-small,resnet18,resnet50,mobilenet-v2
bench/peers.sh --isa avx2 --networks resnet18,resnet20,vgg-small,mobilenet-v2
.venv-bench/bin/python bench/peers_chart.py
