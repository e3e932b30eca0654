# Every target does its own set-up; from a fresh clone, `make test` and `make demo` need nothing before them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ENVIRONMENT := . scripts/environment.sh

.PHONY: help setup test lint fmt demo bench bench-peers

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## packages, Rust, libtorch and the Python environment
	@scripts/setup.sh test

test: ## build everything, run every test (needs no data set)
	@scripts/setup.sh test
	@$(ENVIRONMENT); cargo build --workspace --locked --features dyadic-engine/cli
	@$(ENVIRONMENT); cargo test --workspace --locked --features dyadic-engine/cli

lint: ## formatting, clippy, layout and import rules, container files
	@scripts/setup.sh test
	@scripts/lint.sh

fmt: ## format the Rust sources
	@$(ENVIRONMENT); cargo fmt --all

demo: ## push, quantize and serve a ResNet-20 on CIFAR-10 (EPOCHS=20 for the real figure)
	@scripts/setup.sh demo
	@scripts/demo.sh

bench-peers: ## inference against ONNX Runtime, OpenVINO and LiteRT on seven networks and two of their ends (an hour)
	@bench/peers.sh

bench: ## the figures of docs/benchmarks.md, against other tools on this machine (hours)
	@scripts/setup.sh bench
	@bench/run.sh
