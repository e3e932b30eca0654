#!/usr/bin/env bash
# Formatting, clippy with warnings as errors, who may import whom, container files.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

cargo fmt --all --check
"$DYADIC_PYTHON" scripts/check_layout.py
"$DYADIC_PYTHON" deploy/check.py
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --log-level error check
else
    echo "lint: cargo-deny is not installed; licences and advisories are not checked"
fi
cargo clippy --workspace --all-targets --locked --features dyadic-engine/cli -- -D warnings
