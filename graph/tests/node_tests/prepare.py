"""Writes ONNX's own node tests in a form that a Rust test reads: python prepare.py FOLDER

Of every case the first input of floats goes on flowing; the other inputs, parameters for us, become initializers. Each case is a line of
cases.tsv, and a model, an input and an output one after the other in cases.bin (raw little-endian float32; no output where the case gives
another type). Cases of an elementwise operator with one or three axes come a second time, with a batch of one in front: ONNX has no
others. The package's operator schemas, by which the importer's table is judged, go into schemas.tsv.
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

ELEMENTWISE = {
    *("Add", "Clip", "Div", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Max", "Min", "Mul"),
    *("PRelu", "Relu", "Sigmoid", "Sub", "Swish", "Tanh"),
}


def cases():
    """The package's cases: models and data are computed when they are collected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return collect_testcases(None)


def newest(model):
    """Whether every operator is in the newest version, so that the case may say the newest opset."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        if node.domain not in versions or not onnx.defs.has(node.op_type, node.domain):
            return False
        written = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
        if written.since_version != onnx.defs.get_schema(node.op_type, node.domain).since_version:
            return False
    return True


def floats(value):
    return isinstance(value, np.ndarray) and value.dtype == np.float32


def shape(array):
    return ",".join(map(str, array.shape))


def liftable(case):
    """Whether the case is elementwise and its data have one or three axes: with a batch of one in front it is as true."""
    nodes, inputs = case.model.graph.node, case.data_sets[0][0]
    shapes = [value.ndim for value in inputs if floats(value)]
    return len(nodes) == 1 and nodes[0].op_type in ELEMENTWISE and max(shapes, default=0) in (1, 3)


def lift(info):
    shape = info.type.tensor_type.shape
    dims = [1, *(dim.dim_value for dim in shape.dim)]
    del shape.dim[:]
    for dim in dims:
        shape.dim.add().dim_value = dim


def write(case, data, lifted=False):
    inputs, outputs = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    flowing = next((index for index, value in enumerate(inputs) if floats(value)), None)
    for info, value in zip(graph.input, inputs):
        if flowing is not None and info.name == graph.input[flowing].name:
            continue
        if isinstance(value, np.ndarray | np.generic):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
    constants = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.input if info.name not in constants]
    del graph.input[:]
    graph.input.extend(kept)
    operators = sorted({node.op_type for node in graph.node})
    output = outputs[0]
    given = inputs[flowing] if flowing is not None else np.zeros(0, np.float32)
    if lifted:
        given, output = given[None], output[None]
        for info in [*graph.input, *graph.output]:
            lift(info)
    parts = [
        model.SerializeToString(),
        given.astype("<f4").tobytes(),
        output.astype("<f4").tobytes() if floats(output) else b"",
    ]
    for part in parts:
        data.write(part)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return [
        case.name + ("@lifted" if lifted else ""),
        "+".join(operators),
        opset,
        int(newest(model)),
        shape(given),
        shape(output) if floats(output) else "",
        case.rtol,
        case.atol,
        *map(len, parts),
    ]


def table(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def main():
    folder = pathlib.Path(sys.argv[1])
    collected = [case for case in cases() if case.model is not None]
    with (folder / "cases.bin").open("wb") as data:
        rows = [write(case, data) for case in collected]
        rows += [write(case, data, lifted=True) for case in collected if liftable(case)]
    table(folder / "cases.tsv", rows)
    schemas = sorted(
        (schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == "" and not schema.deprecated),
        key=lambda schema: (schema.name, schema.since_version),
    )
    table(folder / "schemas.tsv", [[schema.name, schema.since_version, " ".join(sorted(schema.attributes))] for schema in schemas])
    (folder / "newest").write_text(str(onnx.defs.onnx_opset_version()))


if __name__ == "__main__":
    main()
