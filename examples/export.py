"""Exports a PyTorch network to the ONNX files that Dyadic reads, with both of PyTorch's exporters and their defaults.

    python examples/export.py FOLDER       needs torch, torchvision, onnx and onnxscript

Writes resnet18.onnx with its side file resnet18.onnx.data (the default exporter), and resnet18-script.onnx (the older one). The weights
are random: put your own trained network in `network`.
"""

import argparse
import pathlib

import torch
import torchvision


def network():
    return torchvision.models.resnet18(num_classes=10)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=pathlib.Path)
    folder = arguments.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    model, example = network().eval(), torch.zeros(1, 3, 64, 64)
    names = {"input_names": ["input"], "output_names": ["logits"]}
    # The batch axis may be left open; height and width stay what they are.
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (example,), folder / "resnet18.onnx", dynamo=True, dynamic_shapes=batch, external_data=True, **names)
    open_batch = {"input": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(model, (example,), folder / "resnet18-script.onnx", dynamo=False, dynamic_axes=open_batch, **names)


if __name__ == "__main__":
    main()
