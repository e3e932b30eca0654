"""Inference of the engine against ONNX Runtime, OpenVINO and LiteRT, float and int8, network by network, on the same core.

    .venv-bench/bin/python bench/peers.py [--networks resnet18,vgg16] [--methods aptq,apq4] [--threads 1] [--rounds 9]
        [--isa full|avx512_vnni|avx2] [--folder out/peers] [--engine target/release/dyadic-engine]
        [--worker target/release/dyadic-worker]

Exports the networks, quantizes them on random images, makes the peers' int8 models (bench/peer_models.py: right for speed, meaningless
for accuracy), and times all in turn, in short rounds, so that a drift of the machine's speed hits all alike. "Best int8" is the fastest
of all int8 peers. OpenVINO runs two int8 models, ONNX Runtime's QDQ one and one made by NNCF, its own quantizer. LiteRT, on XNNPACK,
takes its input as int8 already, which spares it one conversion. A model that cannot be made or run shows as "–", with the reason below.

Everything is pinned to the first --threads cores. With --isa, OpenVINO (through oneDNN) and the engine are held to that instruction set;
ONNX Runtime and LiteRT have no such switch and keep their best, so that "best int8" may then use more than ours; a further ratio is that
to the peers that are held, "held int8". OpenVINO computes as f32 there whatever is not int8: left alone it takes bf16 wherever the CPU
has it, whatever oneDNN's limit, and then has no max pooling for AVX2 ("Supported primitive descriptors list is empty").

Writes peers-ISA-THREADS.md and .json into the folder; bench/peers_chart.py draws the latter.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
from peer_models import FILES, onnx_input, to_int8

ROOT = pathlib.Path(__file__).resolve().parent.parent
NETWORKS = "resnet20,vgg-small,resnet18,resnet50,mobilenet-v2,alexnet,vgg16,fc-alexnet,fc-vgg16"
METHODS = {"aptq": ["--method", "aptq"], "apq4": ["--method", "apq", "--bits", "4"]}
# oneDNN's name for the limit, and our kernel.
ISAS = {"full": (None, None), "avx512_vnni": ("AVX512_CORE_VNNI", "avx512-vnni"), "avx2": ("AVX2", "avx2")}
ROUND_SECS = 0.4
VERSIONS = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "NNCF": "nncf", "LiteRT": "ai-edge-litert"}
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512vbmi", "amx_int8")


def with_onnxruntime(path, value, x, given):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = given.threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {value: x})


def with_openvino(path, value, x, given):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({value: list(x.shape)})
    hints = {"INFERENCE_NUM_THREADS": given.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if given.isa != "full":
        hints["INFERENCE_PRECISION_HINT"] = "f32"
    request, tensor = core.compile_model(model, "CPU", hints).create_infer_request(), openvino.Tensor(x)
    return lambda: request.infer({0: tensor})


def with_litert(path, value, x, given):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=given.threads)
    interpreter.allocate_tensors()
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    x = to_int8(x, inputs)

    def run():
        interpreter.set_tensor(inputs["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return run


# Name: what loads it, the module that does, and the kind of model.
PEERS = {
    "ONNX Runtime fp32": (with_onnxruntime, "onnxruntime", "float"),
    "ONNX Runtime int8": (with_onnxruntime, "onnxruntime", "qdq"),
    "OpenVINO float": (with_openvino, "openvino", "float"),
    "OpenVINO int8, QDQ": (with_openvino, "openvino", "qdq"),
    "OpenVINO int8, NNCF": (with_openvino, "openvino", "nncf"),
    "LiteRT int8": (with_litert, "ai_edge_litert.interpreter", "litert"),
}


def resident():
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def serve(given):
    """The child's side: loads one peer, tells how long that and the first run took, and runs a round whenever asked."""
    make, module, kind = PEERS[given.peer]
    description = json.loads(given.serve)
    x = np.random.default_rng(1).standard_normal(description["shape"], np.float32)
    importlib.import_module(module)
    before, start = resident(), time.perf_counter()
    run = make(description["models"][kind], description["input"], x, given)
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


def last_line(path):
    return next((line.strip() for line in reversed(path.read_text().splitlines()) if line.strip()), "no word")


class Peer:
    """A peer in a process of its own, so that none disturbs another's threads or memory."""

    def __init__(self, name, given, description):
        self.name, self.times, self.start = name, [], None
        kind = PEERS[name][2]
        self.failed = description["failed"].get(kind)
        if not self.failed:
            self.spawn(given, description)
            self.start = self.reply()

    def spawn(self, given, description):
        environment = dict(os.environ)
        if limit := ISAS[given.isa][0]:
            environment["ONEDNN_MAX_CPU_ISA"] = limit
        command = [sys.executable, __file__, "--peer", self.name, "--threads", str(given.threads), "--isa", given.isa,
                   "--serve", json.dumps(description)]  # fmt: skip
        self.path = given.folder / f"{self.name.replace(', ', '-').replace(' ', '-')}.log"
        with self.path.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )

    def reply(self):
        line = self.process.stdout.readline()
        if not line:
            self.failed = f"ended with status {self.process.wait()}: {last_line(self.path)}"
            print(f"{self.name} {self.failed}", flush=True)
            return None
        return json.loads(line)

    def round(self):
        if self.failed:
            return
        print(ROUND_SECS, file=self.process.stdin, flush=True)
        if (median := self.reply()) is not None:
            self.times.append(median)

    def close(self):
        if self.failed:
            return
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """The engine's own tool; a fresh process each round."""

    def __init__(self, method, given, artifact):
        self.name, self.given, self.artifact, self.rounds = method, given, artifact, []

    def bench(self, seconds):
        command = [self.given.engine, "bench", self.artifact, "--threads", self.given.threads, "--seconds", seconds, "--json"]
        if kernel := ISAS[self.given.isa][1]:
            command += ["--kernel", kernel]
        done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    def round(self):
        self.rounds.append(self.bench(ROUND_SECS))

    def report(self):
        medians = [one["median_ms"] for one in self.rounds]
        # Long enough for a hundred runs, as many as the peers had when their memory was looked at; not timed.
        grown = self.bench(100 * max(medians) / 1e3)
        return self.rounds[-1] | {
            "median_ms": statistics.median(medians),
            "load_to_first_ms": statistics.median(one["load_to_first_ms"] for one in self.rounds),
            # None for a kernel whose peak is not measured.
            "peak_gmacs": max((one["peak_gmacs"] for one in self.rounds if one["peak_gmacs"]), default=None),
            "artifact_bytes": self.artifact.stat().st_size,
            **{key: grown[key] for key in ("rss_before_bytes", "rss_after_load_bytes", "rss_after_runs_bytes")},
        }


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


def peer_models(given, name):
    """Paths by kind of model, and what the making of others died of."""
    models, failed = {"float": str(given.folder / f"{name}.onnx")}, {}
    for kind, file in FILES.items():
        path, log = given.folder / file.format(name), given.folder / f"{name}-{kind}.log"
        if not path.exists():
            print(f"{name}: making the int8 model, {kind}", flush=True)
            command = [sys.executable, ROOT / "bench/peer_models.py", given.folder, name, kind]
            with log.open("w") as text:
                status = subprocess.run(command, check=False, stdout=text, stderr=text).returncode
            if status:
                failed[kind] = f"no model, status {status}: {last_line(log)}"
                print(f"{name}: {kind}: {failed[kind]}", flush=True)
                continue
        models[kind] = str(path)
    return models, failed


def measure(given, name):
    path = given.folder / f"{name}.onnx"
    value, shape = onnx_input(path)
    models, failed = peer_models(given, name)
    ours = [Ours(method, given, quantize(given, name, method, path)) for method in given.methods.split(",")]
    description = {"models": models, "failed": failed, "input": value, "shape": shape}
    print(f"{name}: measuring", flush=True)
    peers = [Peer(peer, given, description) for peer in PEERS]
    for _ in range(given.rounds):
        for one in [*ours, *peers]:
            one.round()
    for peer in peers:
        peer.close()
    row = {"network": name, "onnx_bytes": path.stat().st_size, "peers": {}, "ours": {one.name: one.report() for one in ours}}
    for peer in peers:
        median = statistics.median(peer.times) if peer.times and not peer.failed else None
        row["peers"][peer.name] = {"median_ms": median, "failed": peer.failed, **(peer.start or {})}
    for one in row["ours"].values():
        one["ratios"] = {label: best and best / one["median_ms"] for label, best in bests(row, given.isa).items()}
    return row


def fastest(row, beginning):
    """Milliseconds of the fastest int8 peer whose name begins so."""
    int8 = [peer for name, peer in row["peers"].items() if name.startswith(beginning) and "int8" in name]
    return min((peer["median_ms"] for peer in int8 if peer["median_ms"]), default=None)


def bests(row, isa):
    best = {"best int8": fastest(row, "")}
    return best if isa == "full" else best | {"held int8": fastest(row, "OpenVINO")}


def cell(number, digits=3):
    return "–" if number is None else f"{number:.{digits}f}"


def line(cells):
    return "| " + " | ".join(cells) + " |"


def speeds(rows, methods):
    ratios = [(method, label) for label in rows[0]["ours"][methods[0]]["ratios"] for method in methods]
    heads = ["network", *PEERS, *(f"{method}: ms" for method in methods), *(f"{label} ÷ {method}" for method, label in ratios)]
    yield from (line(heads), "|---" * len(heads) + "|")
    for row in rows:
        ours = [row["ours"][method] for method in methods]
        times = [*(row["peers"][peer]["median_ms"] for peer in PEERS), *(one["median_ms"] for one in ours)]
        shown = [f"**{cell(row['ours'][method]['ratios'][label], 2)}**" for method, label in ratios]
        yield line([row["network"], *map(cell, times), *shown])


def grown(part):
    if "rss_before_bytes" not in part:
        return None
    return (part["rss_after_runs_bytes"] - part["rss_before_bytes"]) / 1e6


def costs(rows, methods):
    """Of our artifacts, those of the first method stand here."""
    heads = ["network", "file, ours ÷ fp32 ONNX", "load to first answer, ms: ours", "ONNX Runtime int8", "OpenVINO int8, the quicker",
             "memory from before the load to after the 100th run, MB: ours", "ONNX Runtime int8", "dot-product peak, GMAC/s",
             "ours ÷ peak (Winograd may pass 1)"]  # fmt: skip
    yield from (line(heads), "|---" * len(heads) + "|")
    for row in rows:
        ours, runtime = row["ours"][methods[0]], row["peers"]["ONNX Runtime int8"]
        vino = [peer["load_to_first_ms"] for name, peer in row["peers"].items()
                if name.startswith("OpenVINO int8") and "load_to_first_ms" in peer]  # fmt: skip
        starts = [ours["load_to_first_ms"], runtime.get("load_to_first_ms"), min(vino, default=None)]
        peak = ours["peak_gmacs"]
        reached = peak and ours["macs"] / ours["median_ms"] / 1e6 / peak
        yield line([
            row["network"], f"1/{row['onnx_bytes'] / ours['artifact_bytes']:.1f}", *(cell(ms, 1) for ms in starts),
            cell(grown(ours), 1), cell(grown(runtime), 1), cell(peak, 0), cell(reached, 2),
        ])  # fmt: skip


def failures(rows):
    for row in rows:
        for name, peer in row["peers"].items():
            if peer["failed"]:
                yield f"- {row['network']}, {name}: {peer['failed']}"


def tables(rows, methods):
    parts = [speeds(rows, methods), costs(rows, methods), failures(rows)]
    return "\n\n".join(text for text in map("\n".join, parts) if text)


def machine(given):
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    have = " ".join(flag for flag in FLAGS if flag in flags)
    versions = ", ".join(f"{title} {importlib.metadata.version(package)}" for title, package in VERSIONS.items())
    return (
        f"{model} ({have}), {platform.system()} {platform.release()}; {given.threads} thread(s), batch 1, instruction set: {given.isa}; "
        f"{versions}; medians of {given.rounds} rounds of {ROUND_SECS} s, interleaved"
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--networks", default=NETWORKS)
    arguments.add_argument("--methods", default="aptq,apq4")
    arguments.add_argument("--threads", default=1, type=int)
    arguments.add_argument("--rounds", default=9, type=int)
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
        print("\n".join(speeds(rows[-1:], methods)), flush=True)
        # After every network, so that a failure of a later one loses nothing.
        whole = f"{machine(given)}\n\n{tables(rows, methods)}\n"
        stem = given.folder / f"peers-{given.isa}-{given.threads}"
        stem.with_suffix(".md").write_text(whole)
        stem.with_suffix(".json").write_text(json.dumps({"machine": machine(given), "rows": rows}, indent=1))
    print("\n" + whole)


if __name__ == "__main__":
    main()
