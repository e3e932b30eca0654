"""Holds the importer and the float evaluator to ONNX Runtime on whole torchvision networks, from both of PyTorch's exporters.

    cargo build --release -p dyadic-graph --example parity
    .venv-bench/bin/python bench/import_parity.py FOLDER [--network NAME …] [--program target/release/examples/parity] [--worker WORKER]

Weights are random; normalizations get the statistics of random pictures, so that signals stay alive through the whole depth. The
figure is max|Δ| over max|reference| of two pictures' outputs; goal: at most 1e-4. Files that are in FOLDER already are used again.

With --worker, a `dyadic-worker`, each is quantized to 8 bits from random pictures, without training, as well: the command succeeds only if the
engine computes the training graph's integers on all of them.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import warnings

SIDE = 128
GOAL = 1e-4
# Name: torchvision's constructor and its keywords.
NETWORKS = {
    "mobilenet-v3-large": ("mobilenet_v3_large", {}),
    "mobilenet-v3-small": ("mobilenet_v3_small", {}),
    "efficientnet-b0": ("efficientnet_b0", {}),
    "efficientnet-v2-s": ("efficientnet_v2_s", {}),
    "shufflenet-v2": ("shufflenet_v2_x1_0", {}),
    "regnet-y-400mf": ("regnet_y_400mf", {}),
    "googlenet": ("googlenet", {"transform_input": True, "aux_logits": False, "init_weights": False}),
    "inception-v3": ("inception_v3", {"transform_input": True, "aux_logits": False, "init_weights": False}),
    "mnasnet": ("mnasnet1_0", {}),
}


def network(name):
    import torch
    import torchvision

    torch.manual_seed(0)
    made, keywords = NETWORKS[name]
    net = getattr(torchvision.models, made)(weights=None, **keywords)
    norms = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.weight.data.uniform_(0.8, 1.2)
        norm.bias.data.uniform_(-0.1, 0.1)
    with torch.no_grad():
        net.train()(torch.randn(4, 3, SIDE, SIDE))
    return net.eval()


def export(name, exporter, path):
    """The file, two pictures and ONNX Runtime's answer to them."""
    import numpy as np
    import onnxruntime
    import torch

    net, pictures = network(name), torch.randn(2, 3, SIDE, SIDE)
    names = {"input_names": ["input"], "output_names": ["output"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            dynamic = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(net, (pictures,), path, dynamo=True, verbose=False, dynamic_shapes=dynamic, **names)
        else:
            axes = {"input": {0: "N"}, "output": {0: "N"}}
            torch.onnx.export(net, (pictures,), path, dynamo=False, dynamic_axes=axes, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer = session.run(None, {"input": pictures.numpy()})[0]
    pictures.numpy().astype("<f4").tofile(path.with_suffix(".input"))
    np.asarray(answer).astype("<f4").tofile(path.with_suffix(".output"))


def quantized(worker, path):
    """Pictures on which engine and training graph agree to the last bit, and the artifact's bytes; or why not."""
    command = [worker, "quantize", "--model", path, "--calibration", "random", "--method", "apq", "--codebook", "linear8", "--bits", "8"]
    command += ["--epochs", "0", "--json", "--out", path.with_suffix(".dyadic")]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    report = json.loads(done.stdout)
    return f"{report['images']} pictures exact, {report['artifact_bytes']:,} bytes"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--program", default="target/release/examples/parity")
    parser.add_argument("--worker")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| network | exporter | max|Δ| ÷ max|reference| | quantized |\n|---|---|---|---|", flush=True)
    missed = False
    for name in options.network or NETWORKS:
        for exporter in ["script", "dynamo"]:
            path = options.folder / f"{name}-{exporter}.onnx"
            if not path.with_suffix(".output").exists():
                export(name, exporter, path)
            run = subprocess.run([options.program, path], capture_output=True, text=True)
            far = run.returncode != 0 or float(run.stdout) > GOAL
            missed |= far
            end = quantized(options.worker, path) if options.worker else ""
            missed |= bool(options.worker) and "exact" not in end
            print(f"| {name} | {exporter} | {run.stdout.strip() or run.stderr.strip()} | {end} |", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
