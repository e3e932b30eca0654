"""Training images a second: our worker against PyTorch and Brevitas, on the same ResNet-20, one pinned core, rounds interleaved.

    .venv-bench/bin/python bench/train_peers.py --worker target/release/dyadic-worker --archive CIFAR10.tgz [--core 0] [--rounds 3]

Every trainer runs in a process of its own, batch 128, SGD with momentum. The peers get random images that lie in memory already, and no
augmentation; ours reads and augments CIFAR-10 as in a real job. PyTorch runs in both memory layouts and the faster one counts.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 128
PEERS = ["PyTorch fp32", "PyTorch fp32, channels last", "PyTorch bf16 autocast, channels last", "Brevitas W2A6"]


def resnet20(convolution, relu, linear):
    """ResNet-20 for CIFAR-10 with projection shortcuts, from the layer makers given."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.first = nn.Sequential(convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), relu())
            self.second = nn.Sequential(convolution(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs))
            plain = stride == 1 and inputs == outputs
            self.shortcut = (
                nn.Identity() if plain else nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            )
            self.relu = relu()

        def forward(self, x):
            return self.relu(self.second(self.first(x)) + self.shortcut(x))

    layers = [convolution(3, 16, 3, 1, ends=True), nn.BatchNorm2d(16), relu()]
    inputs = 16
    for outputs in (16, 32, 64):
        for index in range(3):
            layers.append(Block(inputs, outputs, 2 if index == 0 and outputs > 16 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(64, 10))


def plain():
    from torch import nn

    def convolution(inputs, outputs, kernel, stride, ends=False):
        return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    return resnet20(convolution, nn.ReLU, nn.Linear)


def brevitas():
    import brevitas.nn as quantized
    from brevitas.quant import Int8WeightPerChannelFloat

    def convolution(inputs, outputs, kernel, stride, ends=False):
        return quantized.QuantConv2d(
            inputs, outputs, kernel, stride, kernel // 2, bias=False,
            weight_quant=Int8WeightPerChannelFloat, weight_bit_width=8 if ends else 2,
        )  # fmt: skip

    def relu():
        return quantized.QuantReLU(bit_width=6)

    def linear(inputs, outputs):
        return quantized.QuantLinear(inputs, outputs, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=8)

    return resnet20(convolution, relu, linear)


def train(peer, steps):
    """Images a second of one peer, in this process."""
    import contextlib

    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    layout = torch.channels_last if "channels last" in peer else torch.contiguous_format
    model = (brevitas() if peer.startswith("Brevitas") else plain()).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(8, BATCH, 3, 32, 32)
    labels = torch.randint(0, 10, (8, BATCH))
    cast = torch.autocast("cpu", torch.bfloat16) if "bf16" in peer else contextlib.nullcontext()

    def step(index):
        with cast:
            loss = torch.nn.functional.cross_entropy(model(images[index % 8].to(memory_format=layout)), labels[index % 8])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for index in range(5):
        step(index)
    start = time.perf_counter()
    for index in range(steps):
        step(index)
    return steps * BATCH / (time.perf_counter() - start)


def ours(given, core):
    model = ROOT / "examples/models/resnet20-cifar10.onnx"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            given.worker, "quantize", "--model", model, "--dataset", given.archive, "--method", "aptq", "--epochs", "1",
            "--train-limit", "12800", "--eval-limit", "128", "--batch-size", str(BATCH), "--threads", "1", "--json",
            "--out", f"{folder}/a.safetensors",
        ]  # fmt: skip
        return json.loads(pinned(core, command))["images_per_second"]


def pinned(core, command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["taskset", "-c", str(core), *map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--worker", default=ROOT / "target/release/dyadic-worker")
    arguments.add_argument("--archive", type=pathlib.Path)
    arguments.add_argument("--core", default=0, type=int)
    arguments.add_argument("--rounds", default=3, type=int)
    arguments.add_argument("--steps", default=50, type=int)
    arguments.add_argument("--peer", choices=PEERS, help="measure only this one, here, and print its figure")
    given = arguments.parse_args()
    if given.peer:
        print(train(given.peer, given.steps))
        return
    if given.archive is None:
        arguments.error("--archive is needed")
    rates = {name: [] for name in ["dyadic-worker, APTQ", *PEERS]}
    for _ in range(given.rounds):
        rates["dyadic-worker, APTQ"].append(ours(given, given.core))
        for peer in PEERS:
            command = [sys.executable, __file__, "--peer", peer, "--steps", given.steps]
            rates[peer].append(float(pinned(given.core, command)))
    mine = statistics.median(rates["dyadic-worker, APTQ"])
    print(f"{'trainer':<40} {'images/s':>9} {'ours is':>9}   ({given.rounds} rounds, median)")
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"{name:<40} {rate:9.0f} {mine / rate:8.2f}x")


if __name__ == "__main__":
    main()
