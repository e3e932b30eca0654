#!/usr/bin/env bash
# Runs what docker-compose.yml would run, without a container engine: deploy/trial.sh [arguments of deploy/trial.py]
# Or server and worker on a disk that fills up: deploy/trial.sh full-disk [arguments of deploy/full_disk.py]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
. scripts/environment.sh

stamp=.venv-deploy/.requirements.sha256
now=$(sha256sum deploy/requirements.txt | cut -d' ' -f1)
if [ "$(cat $stamp 2>/dev/null)" != "$now" ]; then
    echo "making .venv-deploy (an S3-compatible server for the trial)"
    python3 -m venv .venv-deploy
    .venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.txt
    echo "$now" >$stamp
fi
cargo build --locked -p dyadic-server -p dyadic-worker -p dyadic-cli
script=trial
if [ "${1:-}" = full-disk ]; then
    script=full_disk
    shift
fi
.venv-deploy/bin/python "deploy/$script.py" --programs "${CARGO_TARGET_DIR:-target}/debug" "$@"
