"""Writes the networks of bench/peers.py as ONNX files, with random weights: right for speed, meaningless for accuracy.

    .venv-bench/bin/python bench/export_networks.py FOLDER [NAME …]

Normalizations get statistics that keep activations alive through the whole depth. Files that are there already are left alone.
"""

import argparse
import pathlib
import shutil
import warnings

import torch
import torchvision
import train_peers
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parent.parent


def vgg_small():
    """Six 3 × 3 convolutions and one linear layer for 32 × 32 images, 153 million multiply-accumulates."""
    layers, channels = [], 3
    for width, pool in [(64, False), (64, True), (128, False), (128, True), (256, False), (256, True)]:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 4 * 4, 10))


def fully_connected(*widths):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


# Name: what makes it, and the shape of one input.
NETWORKS = {
    "resnet20": (train_peers.plain, (3, 32, 32)),
    "vgg-small": (vgg_small, (3, 32, 32)),
    "resnet18": (torchvision.models.resnet18, (3, 224, 224)),
    "resnet50": (torchvision.models.resnet50, (3, 224, 224)),
    "mobilenet-v2": (torchvision.models.mobilenet_v2, (3, 224, 224)),
    "alexnet": (torchvision.models.alexnet, (3, 224, 224)),
    "vgg16": (torchvision.models.vgg16, (3, 224, 224)),
    # The fully connected layers alone.
    "fc-alexnet": (lambda: fully_connected(9216, 4096, 4096, 1000), (1, 96, 96)),
    "fc-vgg16": (lambda: fully_connected(25088, 4096, 4096, 1000), (1, 128, 196)),
}


def network(name):
    """The network as PyTorch has it, always with the same weights; ResNet-20's are random here, not the trained ones of its file."""
    make, _ = NETWORKS[name]
    torch.manual_seed(0)
    made = make().eval()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.8, 1.2)
            part.bias.data.uniform_(-0.1, 0.1)
    return made


def export(name, path):
    if name == "resnet20":
        shutil.copyfile(ROOT / "examples/models/resnet20-cifar10.onnx", path)
        return
    made, (_, shape) = network(name), NETWORKS[name]
    example = torch.randn(1, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made, example, path, dynamo=False, opset_version=17, input_names=["input"], output_names=["output"]
        )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    given = arguments.parse_args()
    folder = given.folder
    unknown = set(given.names) - set(NETWORKS)
    if unknown:
        arguments.error(f"unknown: {', '.join(sorted(unknown))}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in given.names or NETWORKS:
        path = folder / f"{name}.onnx"
        if not path.exists():
            print(f"exporting {name}", flush=True)
            # Whole or not at all.
            partial = path.with_suffix(".partial")
            export(name, partial)
            partial.rename(path)


if __name__ == "__main__":
    main()
