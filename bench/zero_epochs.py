"""Measures memory and time of quantization without training: `dyadic-worker quantize --epochs 0` of networks at 224 × 224.

    .venv-bench/bin/python bench/zero_epochs.py FOLDER [--worker target/release/dyadic-worker] [--images N] [--threads N] [NAME …]

Exports the networks with random weights into FOLDER (files that are there are left alone), quantizes each to 4 bits from random images, and
prints a Markdown table: the most memory that a run held at once, its time, and the processor's. With --images, from so many random pictures
of an .npy file instead of the command's own 64.
"""

import argparse
import os
import pathlib
import sys
import time

import numpy as np

NAMES = ["mobilenet-v2", "googlenet", "densenet121", "resnet50", "vgg16"]


def export(name, path):
    """Random weights; normalizations keep activations alive."""
    import export_networks
    import torchvision

    export_networks.NETWORKS |= {
        "googlenet": (lambda: torchvision.models.googlenet(aux_logits=False, init_weights=True), (3, 224, 224)),
        "densenet121": (torchvision.models.densenet121, (3, 224, 224)),
    }
    partial = path.with_suffix(".partial")
    export_networks.export(name, partial)
    partial.rename(path)


def pictures(folder, count):
    path = folder / f"random-{count}.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8))
    return path


def measure(command, log):
    """Bytes, seconds, and seconds of all processors."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execvp(command[0], command)
    _, status, used = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: status {status}, see {log}")
    return used.ru_maxrss * 1024, time.monotonic() - began, used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--worker", default="target/release/dyadic-worker")
    parser.add_argument("--images", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--memory")
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    images = ["--calibration", "random"]
    if options.images:
        images = ["--calibration", str(pictures(options.folder, options.images))]
        images += ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    more = [word for flag in ("threads", "memory") if (v := getattr(options, flag)) for word in (f"--{flag}", str(v))]
    print(f"| network, {options.images or 64} images | peak memory, GiB | seconds | processor seconds |")
    print("|---|---|---|---|", flush=True)
    for name in options.names:
        path = options.folder / f"{name}.onnx"
        if not path.exists():
            export(name, path)
        out = options.folder / f"{name}.dyadic"
        command = [options.worker, "quantize", "--model", str(path), *images, "--epochs", "0", "--method", "apq"]
        command += ["--bits", "4", "--out", str(out), *more]
        size, seconds, processor = measure(command, options.folder / f"{name}.log")
        print(f"| {name} | {size / 2**30:.2f} | {seconds:.0f} | {processor:.0f} |", flush=True)


if __name__ == "__main__":
    main()
