"""Makes one int8 model of a peer of bench/peers.py.

    .venv-bench/bin/python bench/peer_models.py FOLDER NAME qdq|nncf|litert

Calibration is on eight random inputs: right for speed, meaningless for accuracy.

qdq     NAME.int8.onnx, by ONNX Runtime's static quantization: QDQ, weights per channel, unsigned activations
nncf    NAME.nncf.xml and .bin, OpenVINO's own form, by NNCF's post-training quantization, performance preset
litert  NAME.int8.tflite, by LiteRT-Torch and AI Edge Quantizer: weights per channel, signed activations, int8 input and output

The first two start from FOLDER/NAME.onnx, the last from the PyTorch network that this file was written from (ResNet-20: from one of the
same layers with random weights). What LiteRT makes must answer as PyTorch does: the float form closely, since random networks answer almost
alike whatever they are given (two inputs' answers are a few percent apart; MobileNetV2's far less, where this proves little), the int8
form roughly.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

SAMPLES = 8
FILES = {"qdq": "{}.int8.onnx", "nncf": "{}.nncf.xml", "litert": "{}.int8.tflite"}
# How far a form's answer may be from PyTorch's, as a part of that.
APART = {"float": 1e-3, "int8": 0.1}


def samples(shape):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape, np.float32) for _ in range(SAMPLES)]


def onnx_input(path):
    """Name and shape, for one image."""
    import onnx

    value = onnx.load(path, load_external_data=False).graph.input[0]
    return value.name, [1, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])]


def qdq(folder, name, target):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

    value, shape = onnx_input(folder / f"{name}.onnx")

    class Random(CalibrationDataReader):
        def __init__(self):
            self.rest = iter([{value: sample} for sample in samples(shape)])

        def get_next(self):
            return next(self.rest, None)

    prepared = target.with_name("prepared.onnx")
    quant_pre_process(folder / f"{name}.onnx", prepared)
    quantize_static(
        prepared, target, Random(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()


def nncf(folder, name, target):
    import nncf
    import openvino

    value, shape = onnx_input(folder / f"{name}.onnx")
    model = openvino.Core().read_model(folder / f"{name}.onnx")
    model.reshape({value: shape})
    quantized = nncf.quantize(
        model, nncf.Dataset(samples(shape)), subset_size=SAMPLES,
        preset=nncf.QuantizationPreset.PERFORMANCE, target_device=nncf.TargetDevice.CPU,
    )  # fmt: skip
    openvino.save_model(quantized, target, compress_to_fp16=False)


def litert(_, name, target):
    import export_networks
    import litert_torch
    import torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    network, shape = export_networks.network(name), [1, *export_networks.NETWORKS[name][1]]
    plain = target.with_name("float.tflite")
    litert_torch.convert(network, (torch.zeros(shape),)).export(str(plain))
    ((signature, names),) = Interpreter(str(plain)).get_signature_list().items()
    work = quantizer.Quantizer(str(plain))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    calibration = work.calibrate({signature: [{names["inputs"][0]: sample} for sample in samples(shape)]})
    work.quantize(calibration).export_model(str(target))
    x = samples(shape)[0]
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    check("float", expected, litert_answer(plain, x))
    check("int8", expected, litert_answer(target, x))
    plain.unlink()


def to_int8(x, details):
    scale, zero = details["quantization"]
    return np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)


def litert_answer(path, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    int8 = inputs["dtype"] == np.int8
    interpreter.set_tensor(inputs["index"], to_int8(x, inputs) if int8 else x)
    interpreter.invoke()
    answer = interpreter.get_tensor(outputs["index"])
    scale, zero = outputs["quantization"]
    return (answer.astype(np.float32) - zero) * scale if int8 else answer


def check(form, expected, answer):
    apart = float(np.linalg.norm(expected - answer) / np.linalg.norm(expected))
    print(f"{form}: {apart:.2e} from PyTorch's answer", flush=True)
    # Not a number fails too.
    if not apart <= APART[form]:
        sys.exit(f"LiteRT's {form} form is {apart:.2e} from PyTorch's answer, more than {APART[form]}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("name")
    arguments.add_argument("kind", choices=FILES)
    given = arguments.parse_args()
    folder, name, kind = given.folder, given.name, given.kind
    target = folder / FILES[kind].format(name)
    # Whole or not at all.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        made = pathlib.Path(partial) / target.name
        {"qdq": qdq, "nncf": nncf, "litert": litert}[kind](folder, name, made)
        for part in sorted(made.parent.iterdir()):
            part.rename(folder / part.name)


if __name__ == "__main__":
    main()
