"""A one-dimensional network over five seconds of sound at 16 kHz, from PyTorch to served answers.

    .venv-bench/bin/python bench/series.py FOLDER [--programs target/release] [--exporter script|dynamo]

Makes 240 sounds of four kinds (rising and falling chirps, a tone in noise, pulses) of 80,000 unsigned bytes each, trains a residual 1-D CNN
over them in PyTorch for a minute or so, and exports it. Then a server, a worker and a private database of its own: the sounds are pushed as
one .npz, a job quantizes the network to ternary weights with two epochs, and the sounds that were not trained on are asked for as uint8 and
as float32, by the command and by NVIDIA's client, and offline. All answers must be the same, bit for bit, and those of the job's own evaluation.
What is in FOLDER already is not made again.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import warnings

import closeness
import numpy as np
import photographs
from photographs import step

LENGTH, TRAINED, JUDGED = 80_000, 240, 60
MEAN, STD = 127.5 / 255, 64 / 255
KINDS = ("falling", "pulses", "rising", "tone")


def sounds(count, seed):
    """uint8 (count, LENGTH), and their kinds by number."""
    random = np.random.default_rng(seed)
    t = np.arange(LENGTH) / 16_000
    made, kinds = np.empty((count, LENGTH), np.uint8), np.arange(count) % len(KINDS)
    for row, kind in zip(made, kinds):
        low, high = random.uniform(100, 400), random.uniform(1_000, 3_000)
        if KINDS[kind] == "tone":
            wave = np.sin(2 * np.pi * high * t)
        elif KINDS[kind] == "pulses":
            wave = np.sin(2 * np.pi * high * t) * (np.sin(2 * np.pi * random.uniform(2, 8) * t) > 0.7)
        else:
            start, end = (low, high) if KINDS[kind] == "rising" else (high, low)
            wave = np.sin(2 * np.pi * (start * t + (end - start) * t**2 / (2 * t[-1])))
        wave = random.uniform(0.3, 0.8) * wave + random.normal(0, random.uniform(0.05, 0.3), LENGTH)
        row[:] = np.clip(127.5 + 100 * wave, 0, 255).round()
    return made, kinds.astype(np.int64)


def real(made):
    """What the network reads: float32 (N, 1, LENGTH)."""
    return ((made.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD))[:, None]


def network():
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.a, self.b = convolution(width, width, 9, 1), convolution(width, width, 9, 1, last=nn.Identity())

        def forward(self, x):
            return nn.functional.relu(x + self.b(self.a(x)))

    def convolution(inputs, width, side, stride, last=None):
        made = nn.Conv1d(inputs, width, side, stride, side // 2, bias=False)
        return nn.Sequential(made, nn.BatchNorm1d(width), last or nn.ReLU())

    return nn.Sequential(
        convolution(1, 16, 32, 8), nn.MaxPool1d(4), convolution(16, 32, 9, 4), Residual(32), convolution(32, 64, 9, 4), Residual(64),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, len(KINDS)),
    )  # fmt: skip


def train(path, exporter):
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(1)
    made, kinds = sounds(TRAINED, 1)
    x, y = torch.from_numpy(real(made)), torch.from_numpy(kinds)
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=5e-4)
    for epoch in range(1, 9):
        net.train()
        for batch in torch.randperm(TRAINED).split(16):
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} of 8: loss {loss.item():.3f}", flush=True)
    net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["sound"], "output_names": ["kind"]}
        if exporter == "dynamo":
            torch.onnx.export(net, (x[:2],), str(path), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), **names)
        else:
            axes = {"sound": {0: "N"}, "kind": {0: "N"}}
            torch.onnx.export(net, (x[:1],), str(path), dynamo=False, opset_version=17, dynamic_axes=axes, **names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--exporter", choices=["script", "dynamo"], default="script")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    model, data = folder / f"sounds-{given.exporter}.onnx", folder / "sounds.npz"
    if not model.exists():
        step("training the float network in PyTorch, 8 epochs")
        train(model, given.exporter)
    judged, kinds = sounds(JUDGED, 2)
    if not data.exists():
        made, right = sounds(TRAINED, 1)
        np.savez_compressed(data, x_train=made, y_train=right, x_test=judged, y_test=kinds)
    bytes_path, floats_path = folder / "bytes.npy", folder / "floats.npy"
    np.save(bytes_path, judged[:, None, :, None])
    np.save(floats_path, real(judged))

    step("starting a server, a worker and a private PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="dyadic-series.") as name, contextlib.ExitStack() as stack:
        os.chmod(name, 0o711)
        service = photographs.Service(given.programs.resolve(), pathlib.Path(name))
        stack.callback(service.stop)
        service.ready()
        service.run("model", "push", model, "--name", "sounds-float", quiet=False)
        service.run("dataset", "push", data, "--name", "sounds", quiet=False)
        step("quantizing: APTQ, ternary, 2 epochs")
        job, metrics = service.job(
            "--model", "sounds-float", "--dataset", "sounds", "--name", "sounds", "--method", "aptq", "--mean", str(MEAN), "--std", str(STD),
            "--epochs", "2", "--batch-size", "16", "--learning-rate", "0.02", "--promote", "always",
        )  # fmt: skip
        artifact = photographs.pulled(service, job, folder / "ternary")
        step("asking for the sounds that were not trained on")
        whole, said = service.infer("sounds", folder / "dataset.npy", "--dataset", data)
        same = photographs.Comparison("sounds")
        same.add("`dyadic infer --dataset`", whole)
        for kind, path in (("uint8", bytes_path), ("float32", floats_path)):
            same.add(f"`dyadic infer --npy`, {kind}", service.infer("sounds", folder / "npy.npy", "--npy", path)[0])
            same.add(f"tritonclient, {kind}", service.triton("sounds", path, folder / "triton.npy"))
        same.add("`dyadic-engine run`", service.engine(artifact, bytes_path, folder / "engine.npy"))
        step("stopping")
    float_answers = closeness.answers(model, real(judged))
    print("| figure | measured |\n|---|---|")
    print(f"| float accuracy: the job's, ONNX Runtime's | {100 * metrics['float/accuracy']:.1f} %, {100 * (float_answers.argmax(1) == kinds).mean():.1f} % |")
    print(f"| ternary accuracy: the job's, served | {100 * metrics['accuracy']:.1f} %, {100 * said['accuracy']:.1f} % |")
    print(f"| ONNX file, artifact, bytes | {sum(file.stat().st_size for file in folder.glob(model.name + "*")):,}, {artifact.stat().st_size:,} |")
    for name, size, differ in same.rows:
        print(f"| {name} ({size}) | {differ} answered otherwise |")
    if any(differ for *_, differ in same.rows):
        sys.exit("answers differ that must not")


if __name__ == "__main__":
    main()
