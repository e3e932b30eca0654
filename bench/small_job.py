"""What a small job costs beside its training: set-up, calibration and recalibration of a run of 5,120 CIFAR-10 images and one epoch.

    python3 bench/small_job.py DATASET [--worker target/release/dyadic-worker] [--images 5120] [--rounds 3]

DATASET is anything that `dyadic-worker quantize --dataset` takes, as a folder of CIFAR-10's binary files. The run is ResNet-20's, ternary, with
the worker's own defaults otherwise, all test images included. Its report has the seconds of each phase; what passes before the first phase is
told (reading model and data) and after the last (writing) counts as set-up. The figure is set-up + calibrate + fold over train; export, most of
which is the proof by the reference, stands beside it, and float and verify, in which each test image passes once through a network. The least
of the rounds is told.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "examples/models/resnet20-cifar10.onnx"
OVERHEAD = ("set-up", "calibrate", "fold")


def run(given, out):
    command = [
        given.worker, "quantize", "--model", MODEL, "--dataset", given.dataset, "--epochs", "1", "--train-limit", given.images,
        "--json", "--out", out,
    ]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True)
    total = time.monotonic() - began
    report = json.loads(done.stdout)
    seconds = report["seconds"]
    seconds["set-up"] = total - sum(seconds.values())
    return seconds, report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--worker", type=pathlib.Path, default=ROOT / "target/release/dyadic-worker")
    parser.add_argument("--images", type=int, default=5120)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            rows.append(run(given, pathlib.Path(folder) / "artifact"))
            print(f"round {number + 1} of {given.rounds}: {json.dumps({k: round(v, 1) for k, v in rows[-1][0].items()})}", flush=True)
    share = lambda seconds: sum(seconds.get(phase, 0.0) for phase in OVERHEAD) / seconds["train"]
    seconds, report = min(rows, key=lambda row: share(row[0]))
    columns = ["train", *OVERHEAD, "export", "float", "verify"]
    print(f"| {' | '.join(columns)} | overhead ÷ train |\n|{'---|' * (len(columns) + 1)}")
    print(f"| {' | '.join(f'{seconds.get(c, 0.0):.1f}' for c in columns)} | {share(seconds):.2f} |")
    print(f"{given.images} images trained on, {report['images']} judged, {100 * report['accuracy']:.2f} %")


if __name__ == "__main__":
    main()
