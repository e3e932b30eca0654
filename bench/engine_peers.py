"""Inference time of the engine against ONNX Runtime and OpenVINO, float and int8, on the same network and the same core.

    .venv-bench/bin/python bench/engine_peers.py ARTIFACT [--onnx M.onnx] [--engine target/release/dyadic-engine]
        [--core 0] [--threads 1] [--batch 1] [--rounds 5]

Rounds of all engines alternate, so that a drift of the machine's speed hits all alike. The peers' int8 model is made here (QDQ, per
channel, unsigned activations) from random calibration data: right for speed, meaningless for accuracy.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
import openvino
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUND_SECS = 0.5


class RandomImages(CalibrationDataReader):
    def __init__(self, name, shape):
        random = np.random.default_rng(0)
        self.rest = iter([{name: random.standard_normal(shape, np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.rest, None)


def int8_model(path, name, shape, folder):
    prepared, quantized = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(path, prepared)
    quantize_static(
        prepared, quantized, RandomImages(name, shape), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return quantized


def runtime(path, name, x, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {name: x})


def vino(path, name, x, threads):
    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({name: list(x.shape)})
    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request, tensor = core.compile_model(model, "CPU", hints).create_infer_request(), openvino.Tensor(x)
    return lambda: request.infer({0: tensor})


def one_round(run):
    """Times of the calls that fit into a round, in ms."""
    run()
    times = []
    until = time.perf_counter() + ROUND_SECS
    while time.perf_counter() < until:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def ours(given):
    command = [
        given.engine, "bench", given.artifact, "--threads", given.threads, "--batch", given.batch, "--seconds", ROUND_SECS, "--json",
    ]  # fmt: skip
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    return report["kernel"], report["median_ms"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("artifact", type=pathlib.Path)
    arguments.add_argument("--onnx", default=ROOT / "examples/models/resnet20-cifar10.onnx", type=pathlib.Path)
    arguments.add_argument("--engine", default=ROOT / "target/release/dyadic-engine", type=pathlib.Path)
    arguments.add_argument("--core", default=0, type=int, help="first of the cores to pin to")
    arguments.add_argument("--threads", default=1, type=int)
    arguments.add_argument("--batch", default=1, type=int)
    arguments.add_argument("--rounds", default=5, type=int)
    given = arguments.parse_args()

    os.sched_setaffinity(0, range(given.core, given.core + given.threads))
    value = onnx.load(given.onnx).graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(1).standard_normal([given.batch, *shape], np.float32)
    with tempfile.TemporaryDirectory() as folder:
        int8 = int8_model(given.onnx, value.name, [1, *shape], pathlib.Path(folder))
        peers = {
            "ONNX Runtime, fp32": runtime(given.onnx, value.name, x, given.threads),
            "ONNX Runtime, int8": runtime(int8, value.name, x, given.threads),
            "OpenVINO, float file": vino(given.onnx, value.name, x, given.threads),
            "OpenVINO, int8": vino(int8, value.name, x, given.threads),
        }
        times, mine = {name: [] for name in peers}, []
        for _ in range(given.rounds):
            kernel, median = ours(given)
            mine.append(median)
            for name, run in peers.items():
                times[name] += one_round(run)
    medians = {f"dyadic-engine, kernel {kernel}": statistics.median(mine)}
    medians |= {name: statistics.median(all_times) for name, all_times in times.items()}
    first = next(iter(medians.values()))
    print(f"{'engine':<36} {'median ms':>10} {'ours takes':>11}   (batch {given.batch}, {given.threads} thread(s))")
    for name, median in medians.items():
        print(f"{name:<36} {median:10.4f} {first / median:10.2f}x")


if __name__ == "__main__":
    main()
