"""Makes the files of this folder: small networks that are valid but not supported, as PyTorch's two exporters write them.

Run with PyTorch 2.13, torchvision, onnx and onnxscript:

    python make.py

Weights are zeros: which nodes are refused is the same.
"""

import pathlib
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

HERE = pathlib.Path(__file__).parent


def networks():
    yield "vit", VisionTransformer(image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=10), 16
    blocks = [CNBlockConfig(4, 8, 1), CNBlockConfig(8, None, 1)]
    yield "convnext", ConvNeXt(blocks, num_classes=10), 32


def zeros(model):
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(array), tensor.name))


def strip(model):
    """The dynamo exporter notes stack traces, which hold paths of the machine."""
    for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        del part.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")


def main():
    warnings.filterwarnings("ignore")
    torch.manual_seed(1)
    for name, net, size in networks():
        x = torch.zeros(2, 3, size, size)
        names = dict(input_names=["input"], output_names=["output"])
        for exporter in ["script", "dynamo"]:
            path = HERE / f"{name}_{exporter}.onnx"
            if exporter == "dynamo":
                dynamic = ({0: torch.export.Dim.DYNAMIC},)
                torch.onnx.export(net.eval(), (x,), path, dynamo=True, verbose=False, dynamic_shapes=dynamic, external_data=False, **names)
            else:
                axes = {"input": {0: "N"}, "output": {0: "N"}}
                torch.onnx.export(net.eval(), (x,), path, dynamo=False, dynamic_axes=axes, **names)
            model = onnx.load(path)
            strip(model)
            zeros(model)
            onnx.save(model, path)
            print(path.name)


if __name__ == "__main__":
    main()
