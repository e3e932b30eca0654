"""Runs NVIDIA's own client, unchanged, against a live server.

Usage: tritonclient_check.py ADDRESS TOKEN MODEL DIR

DIR holds what the test's own engine made: `floats.bin` (batch x C x H x W, FP32), `bytes.bin` (batch x H x W x C, UINT8),
`floats.out` and `bytes.out` (batch x classes, FP32), `batch` and `labels` (one a line). Exits 0 if every answer is right, bit for
bit; prints the first that is not.
"""

import json
import pathlib
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def refused(code, call):
    """The call must fail with this status code."""
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", (code, error.status(), error.message())
        return error.message()
    raise AssertionError(f"expected {code}")


def tensor(name, values, datatype):
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values)
    return given


def main():
    address, token, model, folder = sys.argv[1:]
    folder = pathlib.Path(folder)
    headers = {"authorization": f"Bearer {token}"}
    client = triton.InferenceServerClient(address)

    assert client.is_server_live()
    assert client.is_server_ready()
    refused("UNAUTHENTICATED", lambda: client.get_server_metadata())
    server = client.get_server_metadata(headers=headers, as_json=True)
    assert server["name"] == "dyadic", server
    assert "classification" in server["extensions"], server

    assert client.is_model_ready(model, headers=headers)
    assert client.is_model_ready(model, "1", headers=headers)
    refused("NOT_FOUND", lambda: client.is_model_ready("nobody", headers=headers))
    refused("NOT_FOUND", lambda: client.is_model_ready(model, "999", headers=headers))
    refused("INVALID_ARGUMENT", lambda: client.is_model_ready(model, "latest", headers=headers))

    metadata = client.get_model_metadata(model, headers=headers, as_json=True)
    config = client.get_model_config(model, headers=headers, as_json=True)["config"]
    assert metadata["inputs"][0]["shape"][0] == "-1", metadata
    dims = [int(extent) for extent in metadata["inputs"][0]["shape"][1:]]
    assert [int(extent) for extent in config["input"][0]["dims"]] == dims, config
    assert config["input"][0]["data_type"] == "TYPE_FP32", config
    source, target = metadata["inputs"][0]["name"], metadata["outputs"][0]["name"]
    most = int(config["max_batch_size"])
    height, width, channels = json.loads(config["parameters"]["uint8_input"]["string_value"])[1:]
    assert [channels, height, width] == dims

    batch = int((folder / "batch").read_text())
    labels = (folder / "labels").read_text().split()
    floats = np.fromfile(folder / "floats.bin", "<f4").reshape([batch, *dims])
    images = np.fromfile(folder / "bytes.bin", "u1").reshape([batch, height, width, channels])
    float_logits = np.fromfile(folder / "floats.out", "<f4").reshape([batch, -1])
    image_logits = np.fromfile(folder / "bytes.out", "<f4").reshape([batch, -1])

    def infer(values, datatype="FP32", **more):
        return client.infer(model, [tensor(source, values, datatype)], headers=headers, **more)

    # All at once, one at a time, with and without named outputs, by version, compressed.
    answer = infer(floats, request_id="seventeen")
    assert np.array_equal(answer.as_numpy(target), float_logits)
    assert answer.get_response().id == "seventeen"
    assert answer.get_response().model_version == "1"
    for index in range(batch):
        answer = infer(floats[index : index + 1], outputs=[triton.InferRequestedOutput(target)], model_version="1")
        assert np.array_equal(answer.as_numpy(target), float_logits[index : index + 1]), index
    answer = infer(images, "UINT8", compression_algorithm="gzip")
    assert np.array_equal(answer.as_numpy(target), image_logits)
    infer(floats, priority=1, timeout=60_000_000, parameters={"mine": "passed over"})

    # Classification: value:index:label, greatest first.
    answer = infer(floats, outputs=[triton.InferRequestedOutput(target, class_count=3)])
    for texts, logits in zip(answer.as_numpy(target), float_logits):
        order = sorted(range(len(logits)), key=lambda index: (-logits[index], index))[:3]
        for text, index in zip(texts, order):
            value, at, label = text.decode().split(":")
            assert int(at) == index and label == labels[index], (text, order)
            assert abs(float(value) - logits[index]) <= 1e-6 + 1e-6 * abs(logits[index]), (text, logits[index])

    # What is wrong has its code.
    refused("NOT_FOUND", lambda: client.infer("nobody", [tensor(source, floats, "FP32")], headers=headers))
    refused("INVALID_ARGUMENT", lambda: infer(floats.astype("f8"), "FP64"))
    refused("INVALID_ARGUMENT", lambda: infer(floats[:, :, :-1]))
    refused("INVALID_ARGUMENT", lambda: infer(np.zeros([most + 1, *dims], "f4")))
    refused("INVALID_ARGUMENT", lambda: infer(np.full([1, *dims], np.nan, "f4")))
    refused("INVALID_ARGUMENT", lambda: infer(floats, outputs=[triton.InferRequestedOutput("nothing")]))
    refused("UNIMPLEMENTED", lambda: client.get_system_shared_memory_status(headers=headers))

    # Many at once, and a stream; answers keep their order.
    answers = queue.Queue()
    for index in range(batch):
        given = [tensor(source, images[index : index + 1], "UINT8")]
        client.async_infer(
            model, given, lambda result, error: answers.put((result, error)), request_id=str(index), headers=headers
        )
    for _ in range(batch):
        result, error = answers.get(timeout=60)
        assert error is None, error
        index = int(result.get_response().id)
        assert np.array_equal(result.as_numpy(target), image_logits[index : index + 1]), index
    client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
    for index in range(batch):
        client.async_stream_infer(
            model if index != 1 else "nobody",
            [tensor(source, floats[index : index + 1], "FP32")],
            request_id=str(index),
        )
    for index in range(batch):
        result, error = answers.get(timeout=60)
        if index == 1:
            assert "nobody" in error.message(), error
            continue
        assert error is None, error
        assert result.get_response().id == str(index), result.get_response().id
        assert np.array_equal(result.as_numpy(target), float_logits[index : index + 1]), index
    client.stop_stream()

    index = client.get_model_repository_index(headers=headers, as_json=True)["models"]
    assert [model, "1", "READY"] in [[entry["name"], entry["version"], entry["state"]] for entry in index], index
    (statistics,) = client.get_inference_statistics(model, "1", headers=headers, as_json=True)["model_stats"]
    asked = int(statistics["inference_stats"]["queue"]["count"])
    assert int(statistics["inference_count"]) >= batch * 6, statistics
    assert int(statistics["inference_stats"]["success"]["count"]) <= asked, statistics
    print("ok")


if __name__ == "__main__":
    main()
