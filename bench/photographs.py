"""A folder of photographs of three classes, from push to answer: each step of docs/your-own-data.md, with training, and what it proves.

    . scripts/environment.sh
    .venv-bench/bin/python bench/photographs.py FOLDER [--programs target/release] [--photographs FOLDER | --packages FOLDER]

1. Pictures: FOLDER/pictures gets train, val and test with three classes in each, in JPEG (some gray, some turned by EXIF) and PNG (some
   with a palette), of many sizes. They are crops of twelve photographs that packages carry, four to a class (bench/agreement.py names the
   packages and fetches them; --packages says where it has unpacked them before). Each photograph is divided into 4 × 3 fields, of which
   8 are for training, 2 for val, 2 for test: no two splits share a pixel, but they do share photographs, so that the accuracy says that
   the way works and not what a network knows of animals. With --photographs, the pictures are those of that folder of class folders: of
   ten files, by name, seven are for training, one for val and two for test.
2. A float network of 64 × 64 pixels is trained in PyTorch (seed 1, one thread) and exported to ONNX; mean and standard deviation stay
   outside. Its outputs are the classes in reverse order, so that labels by number would be wrong.
3. `dyadic up` starts a private PostgreSQL, a server and a worker; model and folder are pushed, and an APTQ job trains ternary weights,
   after one that does not train.
4. The answers are compared as float32 arrays, bit for bit: the folder as `dyadic infer` reads it with the job's own evaluation, and the
   same pixels, resized and cropped by torchvision, as PNG files, as uint8 and as floats, by `dyadic infer`, tritonclient (of the
   environment that DYADIC_PYTHON names) and, offline, `dyadic-engine run`. The float network's answers come from ONNX Runtime, too.
5. The training and val pictures in one folder without classes are distilled to 4 bits, resized by `nearest`, which docs/datasets.md says
   to be torchvision's to the last bit: the test pictures in their own sizes, as PNG files, are held to the pixels that torchvision makes.

Anything that differs where it must not ends the script with status 1. What it starts it stops. It takes about five minutes; pictures and
network in FOLDER are not made again. The last lines are a table in Markdown.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import agreement
import closeness
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIDE = 64
CLASSES = {
    "animals": ["imgaug/quokka.jpg", "skimage/data/chelsea.png", "march-pastoral.jpg", "locomotion-house-cat.jpg"],
    "places": ["sklearn/datasets/images/china.jpg", "black-canyon.jpg", "dust-bowl-home.jpg", "french-alpine-landscape.jpg"],
    "vehicles": ["skimage/data/motorcycle_left.png", "skimage/data/rocket.jpg", "airplane-from-above.jpg", "nagasaki-boats.jpg"],
}
# Split: fields of each photograph, pictures of each class.
SPLITS = {"train": (8, 160), "val": (2, 40), "test": (2, 60)}
KINDS = ["jpeg"] * 5 + ["gray jpeg", "turned jpeg", "png", "png", "palette png"]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
OF_TEN = ["train"] * 7 + ["val"] + ["test"] * 2
EPOCHS = 30
BATCH = ["--batch-size", "32", "--threads", "1", "--mean", ",".join(map(str, closeness.MEAN)), "--std", ",".join(map(str, closeness.STD))]
STARTED = time.monotonic()


def step(text):
    passed = int(time.monotonic() - STARTED)
    print(f"\n== {text}  [{passed // 60}:{passed % 60:02}]", flush=True)


def save(picture, path, kind, random):
    """Writes the picture as a file of that kind."""
    from PIL import Image

    if kind.endswith("png"):
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE) if kind == "palette png" else picture
        return picture.save(path.with_suffix(".png"))
    exif = Image.Exif()
    if kind == "turned jpeg":
        # Held on its side, and the file says so.
        picture, exif[0x0112] = picture.transpose(Image.Transpose.ROTATE_90), 6
    picture = picture.convert("L") if kind == "gray jpeg" else picture
    picture.save(path.with_suffix(".jpg"), quality=int(random.choice([75, 85, 92])), exif=exif)


def make(folder, packages):
    """The three splits, cut from the packages' photographs."""
    from PIL import Image

    random = np.random.default_rng(1)
    for name, paths in CLASSES.items():
        photographs = [Image.open(packages / path).convert("RGB") for path in paths]
        orders = [random.permutation(12) for _ in paths]
        first = 0
        for split, (fields, count) in SPLITS.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                at = index % len(photographs)
                field = int(random.choice(orders[at][first : first + fields]))
                width, height = photographs[at].size[0] // 4, photographs[at].size[1] // 3
                size = [int(extent * random.uniform(0.6, 1)) for extent in (width, height)]
                left = field % 4 * width + int(random.integers(width - size[0] + 1))
                top = field // 4 * height + int(random.integers(height - size[1] + 1))
                crop = photographs[at].crop((left, top, left + size[0], top + size[1]))
                save(crop, folder / split / name / f"{index:04}", random.choice(KINDS), random)
            first += fields


def divide(folder, own):
    """The three splits of the user's own class folders."""
    for place in sorted(path for path in own.iterdir() if path.is_dir()):
        for index, path in enumerate(sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)):
            target = folder / OF_TEN[index % 10] / place.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def files(folder):
    """Paths by class, then name, as data sets are read; and each one's class."""
    paths = sorted(path for path in folder.glob("*/*"))
    return paths, [path.parent.name for path in paths]


def opened(path):
    from PIL import Image, ImageOps

    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def pixels(paths, interpolation="bilinear"):
    """uint8 (N, SIDE, SIDE, 3), by Pillow and torchvision: the shorter side to SIDE, and the middle."""
    from torchvision import transforms

    steps = [transforms.Resize(SIDE, transforms.InterpolationMode(interpolation)), transforms.CenterCrop(SIDE)]
    middle = transforms.Compose(steps)
    return np.stack([np.asarray(middle(opened(path))) for path in paths])


def network(outputs):
    """Nine convolutions and three residuals, 38 million multiply-accumulates."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.body = nn.Sequential(*convolution(width, width, 1), *convolution(width, width, 1)[:-1])
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.body(x) + x)

    def convolution(inputs, width, stride):
        return [nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]

    layers, inputs = [], 3
    for width in (24, 48, 96):
        layers += [*convolution(inputs, width, 2), Residual(width)]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, outputs))


def train(pictures, labels, path):
    """Trains the float network on FOLDER/train, tells its accuracy on val, and exports it."""
    import torch
    from torchvision import transforms

    torch.set_num_threads(1)
    torch.manual_seed(1)
    paths, classes = files(pictures / "train")
    smaller = lambda picture: transforms.Resize(3 * SIDE // 2)(picture) if min(picture.size) > 3 * SIDE // 2 else picture
    images, right = [smaller(opened(path)) for path in paths], torch.tensor([labels.index(name) for name in classes])
    judged, theirs = files(pictures / "val")
    x = torch.from_numpy(closeness.real(pixels(judged)))
    vary = transforms.Compose([
        transforms.RandomResizedCrop(SIDE, scale=(0.5, 1)), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(closeness.MEAN, closeness.STD),
    ])  # fmt: skip
    made = network(len(labels))
    optimizer = torch.optim.SGD(made.parameters(), 0.05, 0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, EPOCHS * (len(paths) // 32))
    for epoch in range(1, EPOCHS + 1):
        made.train()
        for batch in torch.randperm(len(paths))[: len(paths) // 32 * 32].split(32):
            loss = torch.nn.functional.cross_entropy(made(torch.stack([vary(images[i]) for i in batch])), right[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 5 == 0:
            made.eval()
            with torch.no_grad():
                found = [labels[at] for at in made(x).argmax(1)]
            print(f"epoch {epoch} of {EPOCHS}: loss {loss.item():.3f}, {100 * share(found, theirs):.1f} % of val", flush=True)
    made.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made, (x[:1],), str(path), input_names=["input"], output_names=["output"], dynamo=False, opset_version=17)


def share(found, right):
    return float(np.mean([a == b for a, b in zip(found, right, strict=True)]))


class Service:
    """Server, worker and database of `dyadic up`, and the command that talks to them."""

    def __init__(self, programs, folder):
        self.programs, self.data = programs, folder / "data"
        others = lambda key: key.startswith("DYADIC_") or key == "DATABASE_URL"
        self.environment = {key: value for key, value in os.environ.items() if not others(key)}
        self.environment |= {"DYADIC_DATA_DIR": str(self.data)}
        self.log = open(folder / "up.log", "w+")
        # In a session of its own: Ctrl-C ends this script, which then asks it to stop, once.
        command = [programs / "dyadic", "up", "--data", self.data, "--port", "0"]
        self.up = subprocess.Popen(
            command, env=self.environment, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def ready(self):
        end = time.monotonic() + 120
        while "dyadic is up" not in (log := pathlib.Path(self.log.name).read_text()):
            if self.up.poll() is not None or time.monotonic() > end:
                sys.exit(f"dyadic up has not come up:\n{log}")
            time.sleep(0.2)
        self.environment["DYADIC_SERVER"] = (self.data / "address").read_text().strip()

    def stop(self):
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
        self.up.wait(90)
        self.log.close()

    def run(self, *words, program="dyadic", quiet=True):
        """Standard output, with `quiet`; else it is shown."""
        command = [str(self.programs / program), *map(str, words)]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command[:6])} …: status {done.returncode}")
        return done.stdout

    def job(self, *words):
        """Queues a job and watches it to its end: its id, and the last value of each metric."""
        job = json.loads(self.run("job", "submit", *words, "--json"))["job"]["id"]
        self.run("job", "watch", job, quiet=False)
        return job, {metric["name"]: metric["value"] for metric in json.loads(self.run("runs", "show", job, "--json"))["last"]}

    def logits_sha256(self, job):
        return json.loads(self.run("runs", "export", job).splitlines()[0])["run"]["artifact"]["summary"]["logits_sha256"]

    def infer(self, name, out, *words):
        """What the served model answers, and what the command says."""
        said = json.loads(self.run("infer", name, *words, "--out", out, "--json"))
        return np.load(out), said

    def engine(self, artifact, array, out):
        self.run("run", artifact, "--input", array, "--output", out, "--top", "1", program="dyadic-engine")
        return np.load(out)

    def triton(self, name, array, out):
        """The answer to tritonclient, asked in the environment that has it."""
        python = os.environ.get("DYADIC_PYTHON", ROOT / ".venv/bin/python")
        environment = self.environment | {"DYADIC_TOKEN": (self.data / "token").read_text().strip()}
        subprocess.run([python, __file__, out.parent, "--triton", name, array, out], env=environment, check=True)
        return np.load(out)


def ask(name, array, out):
    """Sends an array through the Open Inference Protocol by NVIDIA's client, as the type that it has."""
    sys.path.insert(0, str(ROOT / "examples"))
    import accuracy

    values = np.load(array)
    served = accuracy.Served(os.environ["DYADIC_SERVER"].removeprefix("http://"), os.environ["DYADIC_TOKEN"], name)
    np.save(out, served.all_logits(values, {"uint8": "UINT8", "float32": "FP32"}[values.dtype.name], 16))


class Comparison:
    """Answers that must be the same; the first is what the others are held to."""

    def __init__(self, what):
        self.what, self.answers, self.rows = what, {}, []

    def add(self, name, answer):
        reference = next(iter(self.answers.values()), answer)
        self.answers[name] = answer
        if answer.shape != reference.shape or answer.dtype != np.float32:
            sys.exit(f"{self.what}, {name}: {answer.dtype} {answer.shape}, not float32 {reference.shape}")
        differ = int((answer.view(np.uint32) != reference.view(np.uint32)).any(1).sum())
        self.rows.append((name, f"{answer.shape[0]} × {answer.shape[1]}, {answer.nbytes:,} bytes", differ))
        if len(self.rows) > 1:
            print(f"{self.what}, {name}: {differ} of {len(answer)} pictures answered otherwise than by {self.rows[0][0]}", flush=True)


def labelled(service, folder, labels, model):
    """Push, job, and the same pixels on every way; rows of figures, and of comparisons."""
    pictures = folder / "pictures"
    service.run("model", "push", model, "--name", "photographs-float", quiet=False)
    service.run("dataset", "push", pictures, "--name", "photographs", "--labels", folder / "labels.txt", quiet=False)
    given = [
        "--model", "photographs-float", "--dataset", "photographs", "--name", "photographs", "--method", "aptq",
        "--resize", str(SIDE), "--crop", str(SIDE), *BATCH,
    ]  # fmt: skip
    step("quantizing: APTQ, ternary, without training")
    _, untrained = service.job(*given, "--epochs", "0", "--promote", "never")
    step("quantizing: APTQ, ternary, 10 epochs")
    vary = ["--training-images", "random-resized-crop"]
    job, metrics = service.job(*given, *vary, "--epochs", "10", "--learning-rate", "0.02", "--promote", "always")
    artifact = pulled(service, job, folder / "ternary")

    step("asking for the test pictures, as files, bytes and floats, and offline")
    paths, classes = files(pictures / "test")
    whole, said = service.infer("photographs", folder / "dataset.npy", "--dataset", pictures, "--split", "test")
    if said["correct"] != round(metrics["accuracy"] * len(paths)) or said["images"] != len(paths):
        sys.exit(f"{said['correct']} of {said['images']} served, the job said {metrics['accuracy']} of {len(paths)}")
    if hashlib.sha256(whole.astype("<f4").tobytes()).hexdigest() != service.logits_sha256(job):
        sys.exit("the served outputs are not those of the job's own evaluation")
    print(f"all outputs of all {len(paths)} pictures are those of the job's own evaluation, bit for bit", flush=True)
    own = Comparison("files in their own sizes")
    own.add("`dyadic infer --dataset`, hash equal to the job's", whole)
    own.add("`dyadic infer FILE …`", service.infer("photographs", folder / "files.npy", *paths)[0])

    made = pixels(paths)
    same = everywhere(service, folder, artifact, made)
    float_answers = closeness.answers(model, closeness.real(made))
    answer = same.answers["`dyadic-engine run`, uint8"]
    named = lambda logits: [labels[at] for at in logits.argmax(1)]
    sizes = [path.stat().st_size for path in (model, artifact)]
    far = f"{closeness.snr_db(answer, whole):.1f} dB, {np.abs(whole - answer).max():.3f} of {answer.min():.1f} to {answer.max():.1f}"
    accuracies = [metrics["float/accuracy"], share(named(float_answers), classes)]
    figures = [
        ("pictures judged, classes", f"{len(paths)}, {len(labels)}"),
        ("float accuracy: the job's, ONNX Runtime's after torchvision", ", ".join(map(percent, accuracies))),
        ("ternary accuracy: the job's, served", f"{percent(metrics['accuracy'])}, {percent(said['accuracy'])}"),
        ("ternary accuracy after torchvision's preprocessing", percent(share(named(answer), classes))),
        ("ternary: same first answer as float, signal-to-noise", told(metrics)),
        ("ternary without training: accuracy, same first answer, signal-to-noise", f"{percent(untrained['accuracy'])}, {told(untrained)}"),
        ("ONNX file, ternary artifact", f"{sizes[0]:,} bytes, {sizes[1]:,} bytes (1/{sizes[0] / sizes[1]:.1f})"),
        (
            "ternary, files as read here and by torchvision: same first answer, signal-to-noise, largest difference",
            f"{percent(share(named(whole), named(answer)))}, {far}",
        ),
    ]
    return figures, [own, same]


def everywhere(service, folder, artifact, made):
    """The same pixels as files, bytes and floats, served and offline."""
    from PIL import Image

    arrays = {"uint8": folder / "bytes.npy", "float32": folder / "floats.npy"}
    np.save(arrays["uint8"], made)
    np.save(arrays["float32"], closeness.real(made))
    same, out = Comparison(f"pixels of {SIDE} × {SIDE}"), folder / "answer.npy"
    same.add("`dyadic infer FILE …`, PNG", service.infer("photographs", out, *as_png(folder / "small", map(Image.fromarray, made)))[0])
    for kind, array in arrays.items():
        same.add(f"`dyadic infer --npy`, {kind}", service.infer("photographs", out, "--npy", array)[0])
        same.add(f"tritonclient, {kind}", service.triton("photographs", array, out))
        same.add(f"`dyadic-engine run`, {kind}", service.engine(artifact, array, out))
    return same


def as_png(folder, pictures):
    """Paths of the pictures as lossless files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = []
    for at, picture in enumerate(pictures):
        paths.append(folder / f"{at:05}.png")
        picture.save(paths[-1])
    return paths


def unlabelled(service, folder):
    """A job on pictures without classes; rows of figures, and a comparison."""
    flat = folder / "flat"
    shutil.rmtree(flat, ignore_errors=True)
    flat.mkdir()
    for split in ("train", "val"):
        for path in files(folder / "pictures" / split)[0]:
            shutil.copy(path, flat / f"{split}-{path.parent.name}-{path.name}")
    service.run("dataset", "push", flat, "--name", "flat", quiet=False)
    given = [
        "--model", "photographs-float", "--dataset", "flat", "--name", "distilled", "--method", "apq", "--bits", "4", "--loss", "distill",
        "--validation", "0.25", "--resize", str(SIDE), "--crop", str(SIDE), "--interpolation", "nearest", *BATCH,
    ]  # fmt: skip
    step("quantizing without labels: APQ, 4 bits, without training")
    _, untrained = service.job(*given, "--epochs", "0", "--promote", "never")
    step("quantizing without labels: APQ, 4 bits, 3 epochs")
    vary = ["--training-images", "plain"]
    job, metrics = service.job(*given, *vary, "--epochs", "3", "--learning-rate", "0.001", "--promote", "always")
    artifact = pulled(service, job, folder / "distilled")
    step("asking the network that saw no labels")
    paths = as_png(folder / "lossless", map(opened, files(folder / "pictures/test")[0]))
    np.save(folder / "bytes.npy", pixels(paths, "nearest"))
    same, out = Comparison("PNG files in their own sizes, `nearest`"), folder / "answer.npy"
    same.add("`dyadic infer FILE …`", service.infer("distilled", out, *paths)[0])
    same.add("torchvision, then tritonclient, uint8", service.triton("distilled", folder / "bytes.npy", out))
    same.add("torchvision, then `dyadic-engine run`", service.engine(artifact, folder / "bytes.npy", out))
    figures = [
        ("4 bits, distilled without labels: same first answer as float, signal-to-noise", told(metrics)),
        ("4 bits without training", told(untrained)),
        ("4-bit artifact", f"{artifact.stat().st_size:,} bytes"),
    ]
    return figures, same


def pulled(service, job, folder):
    shutil.rmtree(folder, ignore_errors=True)
    service.run("model", "pull", "--job", job, "--out", folder)
    return next(folder.glob("*.safetensors"))


def percent(value):
    return f"{100 * value:.1f} %"


def told(metrics):
    return f"{percent(metrics['agreement'])}, {metrics['closeness_db']:.1f} dB"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("target/release"))
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--photographs", type=pathlib.Path, help="a folder of class folders to take instead")
    source.add_argument("--packages", type=pathlib.Path, help="where bench/agreement.py has unpacked the packages")
    parser.add_argument("--triton", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.triton:
        return ask(*arguments.triton)
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # So that what was started is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    step("pictures")
    pictures, partial = folder / "pictures", folder / "pictures.partial"
    if not pictures.exists():
        shutil.rmtree(partial, ignore_errors=True)
        if arguments.photographs:
            divide(partial, arguments.photographs)
        else:
            make(partial, arguments.packages or agreement.fetched(folder))
        partial.rename(pictures)
    for split in SPLITS:
        paths, classes = files(pictures / split)
        print(f"{split}: {len(paths)} files, {sum(path.suffix == '.png' for path in paths)} of them PNG, of {len(set(classes))} classes")
    labels = sorted(set(files(pictures / "train")[1]), reverse=True)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in labels))

    model = folder / "photographs.onnx"
    if not model.exists():
        step(f"training the float network in PyTorch, {EPOCHS} epochs")
        train(pictures, labels, folder / "photographs.partial")
        (folder / "photographs.partial").rename(model)

    step("starting a server, a worker and a private PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="dyadic-photographs.") as name, contextlib.ExitStack() as stack:
        # As root, PostgreSQL runs as another user, who has to reach its cluster.
        os.chmod(name, 0o711)
        service = Service(arguments.programs.resolve(), pathlib.Path(name))
        stack.callback(service.stop)
        service.ready()
        step("pushing the model and the pictures")
        figures, comparisons = labelled(service, folder, labels, model)
        step("pushing the pictures without classes")
        more, comparison = unlabelled(service, folder)
        comparisons.append(comparison)
        step("stopping")

    step("what came of it")
    print("| figure | measured |\n|---|---|")
    for row in figures + more:
        print(f"| {row[0]} | {row[1]} |")
    print("\n| answers compared | float32 values | pictures answered otherwise |\n|---|---|---|")
    for comparison in comparisons:
        for at, (name, size, differ) in enumerate(comparison.rows):
            print(f"| {comparison.what}: {name} | {size} | {differ if at else '—'} |")
    if differ := sum(row[2] for comparison in comparisons for row in comparison.rows):
        sys.exit(f"{differ} answers differ that must not")


if __name__ == "__main__":
    main()
