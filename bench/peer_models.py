"""Makes one int8 model of a peer of bench/peers.py.

    .venv-bench/bin/python bench/peer_models.py FOLDER NAME qdq|nncf|litert

Calibration is on eight random inputs: right for speed, meaningless for accuracy.

qdq     NAME.int8.onnx, by ONNX Runtime's static quantization: QDQ, weights per channel, unsigned activations
nncf    NAME.nncf.xml and .bin, OpenVINO's own form, by NNCF's post-training quantization, performance preset
litert  NAME.int8.tflite, by LiteRT-Torch and AI Edge Quantizer: weights per channel, signed activations, int8 input and output

The first two start from FOLDER/NAME.onnx, the last from the PyTorch network that this file was written from (ResNet-20: from one of the
same layers with random weights). What LiteRT makes is compared with PyTorch's answer; a model that tells another tale is not kept.
"""

import pathlib
import sys
import tempfile

import numpy as np

SAMPLES = 8
FILES = {"qdq": "{}.int8.onnx", "nncf": "{}.nncf.xml", "litert": "{}.int8.tflite"}
# Cosine between the float network's answer and the int8 one's; a wrong layout or layer comes to nearly 0.
ALIKE = 0.9


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
    plain.unlink()
    with torch.no_grad():
        expected = network(torch.from_numpy(samples(shape)[0])).numpy()
    check(expected, litert_answer(target, samples(shape)[0]))


def to_int8(x, details):
    scale, zero = details["quantization"]
    return np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)


def litert_answer(path, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(inputs["index"], to_int8(x, inputs))
    interpreter.invoke()
    scale, zero = outputs["quantization"]
    return (interpreter.get_tensor(outputs["index"]).astype(np.float32) - zero) * scale


def check(expected, answer):
    cosine = float(np.vdot(expected, answer) / (np.linalg.norm(expected) * np.linalg.norm(answer)))
    print(f"cosine with the float answer: {cosine:.4f}")
    if not cosine >= ALIKE:
        sys.exit(f"the int8 model's answer is not the network's: cosine {cosine:.4f}")


def main():
    folder, name, kind = pathlib.Path(sys.argv[1]), *sys.argv[2:]
    target = folder / FILES[kind].format(name)
    # Whole or not at all.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        made = pathlib.Path(partial) / target.name
        {"qdq": qdq, "nncf": nncf, "litert": litert}[kind](folder, name, made)
        for part in sorted(made.parent.iterdir()):
            part.rename(folder / part.name)


if __name__ == "__main__":
    main()
