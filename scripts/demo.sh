#!/usr/bin/env bash
# The whole way of the data, once: a float ResNet-20 is pushed, queued, fine-tuned to ternary powers of two on CIFAR-10, published,
# and served to NVIDIA's own client, with the accuracy that the job reported.
#   EPOCHS=20         for the figure of docs/benchmarks.md (default 2)
#   TRAIN_LIMIT=5000  to train on fewer images
#   KEEP=1            to leave the data folder in place
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

epochs=${EPOCHS:-2}
model=examples/models/resnet20-cifar10.onnx
bin=${CARGO_TARGET_DIR:-target}/release
started=$SECONDS

step() { printf '\n== %s  [%d:%02d]\n' "$*" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

work=$(mktemp -d "${TMPDIR:-/tmp}/dyadic-demo.XXXXXX")
# As root, PostgreSQL runs as another user, who has to reach its cluster.
chmod 711 "$work"
up=
finish() {
    local code=$?
    if [ -n "$up" ] && kill -0 "$up" 2>/dev/null; then
        kill -TERM "$up"
        wait "$up" || true
    fi
    if [ $code != 0 ] && [ -d "$work/data/logs" ]; then
        tail -n 20 "$work"/data/logs/*.log >&2 || true
    fi
    if [ -n "${KEEP:-}" ]; then echo "everything lies in $work/data; dyadic up --data $work/data starts it again"; else rm -rf "$work"; fi
    exit $code
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step "building the server, the worker, the engine's tool and the dyadic command"
cargo build --release --locked -p dyadic-server -p dyadic-worker -p dyadic-cli -p dyadic-engine --features dyadic-engine/cli

step "starting a server, a worker and a private PostgreSQL"
export DYADIC_DATA_DIR=$work/data
# In a session of its own: Ctrl-C ends this script, which then asks it to stop, once.
setsid "$bin/dyadic" up --data "$DYADIC_DATA_DIR" --port 0 >"$work/up.log" 2>&1 &
up=$!
for _ in $(seq 240); do
    grep -q 'dyadic is up' "$work/up.log" && break
    kill -0 "$up" 2>/dev/null || { cat "$work/up.log" >&2; exit 1; }
    sleep 0.5
done
grep -q 'dyadic is up' "$work/up.log" || { cat "$work/up.log" >&2; exit 1; }
sed -n '/dyadic is up/,/workers/p' "$work/up.log"
export DYADIC_SERVER
DYADIC_SERVER=$(tr -d '[:space:]' <"$DYADIC_DATA_DIR/address")

step "pushing the model and the data set"
"$bin/dyadic" model push "$model" --name resnet20-float
"$bin/dyadic" dataset push "$CIFAR10_ARCHIVE" --name cifar10

step "quantizing: APTQ, ternary, $epochs epochs"
"$bin/dyadic" job submit --model resnet20-float --dataset cifar10 --preprocess cifar10 --method aptq --name resnet20 \
    --epochs "$epochs" --learning-rate "${LEARNING_RATE:-0.02}" --promote always ${TRAIN_LIMIT:+--train-limit "$TRAIN_LIMIT"} \
    --json >"$work/job.json"
job=$("$DYADIC_PYTHON" -c 'import json, sys; reply = json.load(sys.stdin); print(reply.get("job", reply)["id"])' <"$work/job.json")
"$bin/dyadic" job watch "$job"
"$bin/dyadic" runs show "$job" --json >"$work/run.json"
"$bin/dyadic" model pull --job "$job" --out "$work/artifact" >/dev/null

logits=$("$bin/dyadic" runs export "$job" | "$DYADIC_PYTHON" -c \
    'import json, sys; print(json.loads(sys.stdin.readline())["run"]["artifact"]["summary"]["logits_sha256"])')

step "asking the live server with tritonclient[grpc], 10,000 images"
"$DYADIC_PYTHON" examples/accuracy.py --server "${DYADIC_SERVER#http://}" --model resnet20 --archive "$CIFAR10_ARCHIVE" \
    --logits-sha256 "$logits" --json >"$work/served.json"
artifact=$(find "$work/artifact" -name '*.safetensors')
"$bin/dyadic-engine" verify "$artifact"
"$bin/dyadic-engine" bench "$artifact" --json >"$work/bench.json"

step "what came of it"
"$DYADIC_PYTHON" scripts/demo_report.py --run "$work/run.json" --served "$work/served.json" --bench "$work/bench.json" \
    --onnx "$model" --artifact "$artifact" --floor "${FLOOR:-0.84}"
