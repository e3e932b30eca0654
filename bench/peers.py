"""Inference of the engine against ONNX Runtime and OpenVINO, float and int8, network by network, on the same core.

    .venv-bench/bin/python bench/peers.py [--networks resnet18,vgg16] [--methods aptq,apq4] [--threads 1] [--rounds 5]
        [--isa full|avx512_vnni|avx2] [--folder out/peers] [--engine target/release/dyadic-engine]
        [--worker target/release/dyadic-worker]

Exports the networks, quantizes them on random images, makes the peers' int8 models (QDQ, per channel, unsigned activations, random
calibration: right for speed, meaningless for accuracy), and times all in turn, so that a drift of the machine's speed hits all alike.
Everything is pinned to the first --threads cores. With --isa, OpenVINO (through oneDNN) and the engine are held to that instruction
set; ONNX Runtime has no such switch and keeps its best. Writes peers-ISA-THREADS.md and .json into the folder.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
NETWORKS = "resnet20,vgg-small,resnet18,resnet50,mobilenet-v2,alexnet,vgg16,fc-alexnet,fc-vgg16"
METHODS = {"aptq": ["--method", "aptq"], "apq4": ["--method", "apq", "--bits", "4"]}
# oneDNN's name for the limit, and our kernel.
ISAS = {"full": (None, None), "avx512_vnni": ("AVX512_CORE_VNNI", "avx512-vnni"), "avx2": ("AVX2", "avx2")}
ROUND_SECS = 0.4
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512vbmi", "amx_int8")


def int8_model(path, value, shape, target):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

    class Random(CalibrationDataReader):
        def __init__(self):
            random = np.random.default_rng(0)
            self.rest = iter([{value: random.standard_normal(shape, np.float32)} for _ in range(8)])

        def get_next(self):
            return next(self.rest, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        quant_pre_process(path, prepared)
        partial = target.with_suffix(".partial")
        quantize_static(
            prepared, partial, Random(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        partial.rename(target)


def with_onnxruntime(path, value, x, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {value: x})


def with_openvino(path, value, x, threads):
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({value: list(x.shape)})
    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request, tensor = core.compile_model(model, "CPU", hints).create_infer_request(), openvino.Tensor(x)
    return lambda: request.infer({0: tensor})


PEERS = {
    "ONNX Runtime fp32": (with_onnxruntime, False),
    "ONNX Runtime int8": (with_onnxruntime, True),
    "OpenVINO float": (with_openvino, False),
    "OpenVINO int8": (with_openvino, True),
}


def resident():
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def serve(given):
    """The child's side: loads one peer, tells how long that and the first run took, and runs a round whenever asked."""
    make, quantized = PEERS[given.peer]
    description = json.loads(given.serve)
    path, value = description["int8" if quantized else "onnx"], description["input"]
    x = np.random.default_rng(1).standard_normal([1, *description["shape"]], np.float32)
    __import__("openvino" if make is with_openvino else "onnxruntime")
    before, start = resident(), time.perf_counter()
    run = make(path, value, x, given.threads)
    run()
    first = time.perf_counter() - start
    loaded = resident()
    for _ in range(100):
        run()
    report = {"load_to_first_ms": first * 1e3, "rss_before_bytes": before, "rss_after_load_bytes": loaded,
              "rss_after_runs_bytes": resident()}  # fmt: skip
    print(json.dumps(report), flush=True)
    for line in sys.stdin:
        times, until = [], time.perf_counter() + float(line)
        while not times or time.perf_counter() < until:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(statistics.median(times), flush=True)


class Peer:
    """A peer in a process of its own, so that none disturbs another's threads or memory."""

    def __init__(self, name, given, description):
        self.name = name
        environment = dict(os.environ)
        limit = ISAS[given.isa][0]
        if limit:
            environment["ONEDNN_MAX_CPU_ISA"] = limit
        command = [sys.executable, __file__, "--peer", name, "--threads", str(given.threads), "--serve", json.dumps(description)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log(given), text=True, env=environment
        )
        self.failed = None
        self.times, self.start = [], self.reply()

    def log(self, given):
        self.path = given.folder / f"{self.name.replace(' ', '-')}.log"
        return self.path.open("w")

    def reply(self):
        line = self.process.stdout.readline()
        if not line:
            last = [line for line in self.path.read_text().splitlines() if line.strip()][-1:]
            self.failed = f"{self.name} ended with status {self.process.wait()}: {''.join(last)}"
            print(self.failed, flush=True)
            return None
        return json.loads(line)

    def round(self):
        if self.failed:
            return
        print(ROUND_SECS, file=self.process.stdin, flush=True)
        if (median := self.reply()) is not None:
            self.times.append(median)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """The engine's own tool; a fresh process each round."""

    def __init__(self, method, given, artifact):
        self.name, self.given, self.artifact = method, given, artifact
        self.times, self.starts, self.last = [], [], {}

    def round(self):
        command = [self.given.engine, "bench", self.artifact, "--threads", self.given.threads, "--seconds", ROUND_SECS, "--json"]
        if kernel := ISAS[self.given.isa][1]:
            command += ["--kernel", kernel]
        done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
        self.last = json.loads(done.stdout)
        self.times.append(self.last["median_ms"])
        self.starts.append(self.last["load_to_first_ms"])


def quantize(given, name, method, onnx):
    artifact = given.folder / f"{name}-{method}.safetensors"
    if not artifact.exists():
        print(f"{name}: quantizing, {method}", flush=True)
        # Few images: nobody looks at the accuracy.
        command = [given.worker, "quantize", "--model", onnx, "--calibration", "random", "--train-limit", "8", "--eval-limit", "4",
                   *METHODS[method], "--out", artifact]  # fmt: skip
        if name.startswith("fc-"):
            # Their first and last layers stand inside a network, where they would not have eight bits.
            command.append("--strict")
        log = artifact.with_suffix(".log")
        with log.open("w") as text:
            if subprocess.run([str(word) for word in command], check=False, stdout=text, stderr=text).returncode:
                sys.exit(f"quantizing {name} failed; {log} tells why")
    return artifact


def measure(given, name):
    import onnx

    path = given.folder / f"{name}.onnx"
    value = onnx.load(path, load_external_data=False).graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    int8 = given.folder / f"{name}.int8.onnx"
    if not int8.exists():
        print(f"{name}: making the peers' int8 model", flush=True)
        int8_model(path, value.name, [1, *shape], int8)
    artifacts = {method: quantize(given, name, method, path) for method in given.methods.split(",")}
    description = {"onnx": str(path), "int8": str(int8), "input": value.name, "shape": shape}
    print(f"{name}: measuring", flush=True)
    peers = [Peer(peer, given, description) for peer in PEERS]
    ours = [Ours(method, given, artifact) for method, artifact in artifacts.items()]
    for _ in range(given.rounds):
        for one in [*ours, *peers]:
            one.round()
    for peer in peers:
        peer.close()
    row = {"network": name, "onnx_bytes": path.stat().st_size, "peers": {}, "ours": {}}
    for peer in peers:
        median = statistics.median(peer.times) if peer.times else None
        row["peers"][peer.name] = {"median_ms": median, "failed": peer.failed, **(peer.start or {})}
    for one in ours:
        median, start = statistics.median(one.times), statistics.median(one.starts)
        row["ours"][one.name] = one.last | {
            "median_ms": median, "load_to_first_ms": start, "artifact_bytes": artifacts[one.name].stat().st_size,
        }  # fmt: skip
    return row


def best_int8(row):
    return min((peer["median_ms"] for name, peer in row["peers"].items() if "int8" in name and peer["median_ms"]), default=None)


def cell(number, digits=3):
    return "–" if number is None else f"{number:.{digits}f}"


def table(rows, methods):
    heads = ["network", *PEERS, *(f"{m}: ms" for m in methods), *(f"{m}: best int8 ÷ ours" for m in methods)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        best = best_int8(row)
        times = [row["ours"][method]["median_ms"] for method in methods]
        cells = [row["network"], *(cell(row["peers"][peer]["median_ms"]) for peer in PEERS), *map(cell, times)]
        cells += [f"**{best / time:.2f}**" if best else "–" for time in times]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| network | file, ours ÷ fp32 ONNX | load to first answer, ms: ours; ONNX Runtime int8; OpenVINO int8 | "
              "memory from load to the 100th run, MB: ours; ONNX Runtime int8 |", "|---|---|---|---|"]  # fmt: skip
    for row in rows:
        mine = row["ours"][methods[0]]
        runtime, vino = row["peers"]["ONNX Runtime int8"], row["peers"]["OpenVINO int8"]
        grown = [(part["rss_after_runs_bytes"] - part["rss_before_bytes"]) / 1e6 if "rss_before_bytes" in part else None
                 for part in (mine, runtime)]  # fmt: skip
        starts = "; ".join(cell(part.get("load_to_first_ms"), 1) for part in (mine, runtime, vino))
        sizes = f"1/{row['onnx_bytes'] / mine['artifact_bytes']:.1f}"
        lines.append(f"| {row['network']} | {sizes} | {starts} | {cell(grown[0], 1)}; {cell(grown[1], 1)} |")
    return "\n".join(lines)


def machine(given):
    import onnxruntime
    import openvino

    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    have = " ".join(flag for flag in FLAGS if flag in flags)
    return (
        f"{model} ({have}), {platform.system()} {platform.release()}; {given.threads} thread(s), batch 1, instruction set: {given.isa}; "
        f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}; medians of {given.rounds} rounds"
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--networks", default=NETWORKS)
    arguments.add_argument("--methods", default="aptq,apq4")
    arguments.add_argument("--threads", default=1, type=int)
    arguments.add_argument("--rounds", default=5, type=int)
    arguments.add_argument("--isa", default="full", choices=ISAS)
    arguments.add_argument("--folder", default=ROOT / "out/peers", type=pathlib.Path)
    arguments.add_argument("--engine", default=ROOT / "target/release/dyadic-engine", type=pathlib.Path)
    arguments.add_argument("--worker", default=ROOT / "target/release/dyadic-worker", type=pathlib.Path)
    arguments.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    arguments.add_argument("--serve", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        return serve(given)
    os.sched_setaffinity(0, range(given.threads))
    names, methods = given.networks.split(","), given.methods.split(",")
    subprocess.run([sys.executable, ROOT / "bench/export_networks.py", given.folder, *names], check=True)
    rows = []
    for name in names:
        rows.append(measure(given, name))
        print(table(rows[-1:], methods), flush=True)
        # After every network, so that a failure of a later one loses nothing.
        whole = f"{machine(given)}\n\n{table(rows, methods)}\n"
        stem = given.folder / f"peers-{given.isa}-{given.threads}"
        stem.with_suffix(".md").write_text(whole)
        stem.with_suffix(".json").write_text(json.dumps({"machine": machine(given), "rows": rows}, indent=1))
    print("\n" + whole)


if __name__ == "__main__":
    main()
