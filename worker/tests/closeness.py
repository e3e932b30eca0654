"""How close ONNX Runtime's int8 comes to the float network: the measure that ours is held to.

    python closeness.py FIXTURES INPUTS

For each INPUTS/NAME.npy (float32, N × C × H × W) the network FIXTURES/NAME.onnx is quantized statically (QDQ, int8, per
channel), calibrated on these inputs, and run on them. Prints one JSON object: NAME → signal-to-noise in dB, each output's
mean over the inputs removed.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    def __init__(self, name, batches):
        self.feeds = iter([{name: batch} for batch in batches])

    def get_next(self):
        return next(self.feeds, None)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, name, batches):
    net = session(path)
    return np.concatenate([net.run(None, {name: batch})[0] for batch in batches]).astype(np.float64)


def signal_to_noise_db(reference, outputs):
    reference = reference.reshape(len(reference), -1)
    outputs = outputs.reshape(len(outputs), -1)
    reference = reference - reference.mean(axis=0)
    noise = outputs - outputs.mean(axis=0) - reference
    return 10 * np.log10((reference**2).sum() / (noise**2).sum())


def measure(model, inputs):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source, ready, quantized = folder / "float.onnx", folder / "ready.onnx", folder / "int8.onnx"
        network = onnx.load(model)
        onnx.save(network, source)
        value = network.graph.input[0]
        first = value.type.tensor_type.shape.dim[0]
        size = first.dim_value or 16
        if len(inputs) % size:
            raise SystemExit(f"{len(inputs)} inputs are not whole batches of {size}")
        batches = np.split(inputs, len(inputs) // size)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            quantized,
            Reader(value.name, batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return signal_to_noise_db(run(source, value.name, batches), run(quantized, value.name, batches))


def main():
    fixtures, folder = map(pathlib.Path, sys.argv[1:])
    files = sorted(folder.glob("*.npy"))
    found = {file.stem: measure(fixtures / f"{file.stem}.onnx", np.load(file)) for file in files}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
