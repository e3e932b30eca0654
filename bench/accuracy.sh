#!/usr/bin/env bash
# Accuracy of the last epoch, by the integer engine, on all of CIFAR-10's test images: bench/accuracy.sh [aptq] [apq3] [apq4]
# EPOCHS (default 20 for aptq, 14 for apq), SEED and THREADS (default 1) may be set. Artifacts and reports lie in ${OUT:-out}.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

out=${OUT:-out}
mkdir -p "$out"
[ $# -gt 0 ] || set -- aptq apq3 apq4
cargo build --release --locked -p dyadic-worker
for network in "$@"; do
    case "$network" in
        aptq) method=(--method aptq --epochs "${EPOCHS:-20}" --learning-rate 0.02) ;;
        apq[2-5]) method=(--method apq --bits "${network#apq}" --epochs "${EPOCHS:-14}" --learning-rate 0.01) ;;
        *) echo "unknown network $network: aptq, apq2, apq3, apq4 or apq5" >&2; exit 2 ;;
    esac
    "${CARGO_TARGET_DIR:-target}/release/dyadic-worker" quantize --model examples/models/resnet20-cifar10.onnx \
        --dataset "$CIFAR10_ARCHIVE" "${method[@]}" --seed "${SEED:-1}" --threads "${THREADS:-1}" \
        --out "$out/$network.safetensors" --json >"$out/$network.json"
    "$DYADIC_PYTHON" - "$network" "$out/$network.json" examples/models/resnet20-cifar10.onnx <<'PY'
import json
import pathlib
import sys

name, report, onnx = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text()), pathlib.Path(sys.argv[3])
print(
    f"{name}: float {100 * report['float_accuracy']:.2f} %, engine {100 * report['accuracy']:.2f} % on {report['images']} images, "
    f"{report['artifact_bytes']} bytes (1/{onnx.stat().st_size / report['artifact_bytes']:.1f} of the ONNX file)"
)
PY
done
