"""Prints the demo's table, and fails if what is served is not what the job reported, or is worse than the floor."""

import argparse
import json
import pathlib
import sys


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "served", "bench", "onnx", "artifact"):
        arguments.add_argument(f"--{name}", required=True, type=pathlib.Path)
    arguments.add_argument("--floor", default=0.0, type=float)
    given = arguments.parse_args()
    run, served, bench = (json.loads(path.read_text()) for path in (given.run, given.served, given.bench))
    metrics = {metric["name"]: metric["value"] for metric in run["last"]}
    onnx, artifact = given.onnx.stat().st_size, given.artifact.stat().st_size

    rows = [
        ("float accuracy", f"{100 * metrics['float/accuracy']:.2f} %"),
        ("the job's accuracy", f"{100 * metrics['accuracy']:.2f} %"),
        ("served accuracy", f"{100 * served['accuracy']:.2f} %  ({served['images']:,} images, tritonclient)"),
        ("outputs of the job and served", f"{served['images']:,} of {served['images']:,} images equal, bit for bit"),
        ("ONNX file", f"{onnx:,} bytes"),
        ("artifact", f"{artifact:,} bytes  (1/{onnx / artifact:.1f})"),
        ("latency over gRPC", f"{served['median_ms']:.2f} ms  (one image, median)"),
        ("latency of the engine", f"{bench['median_ms']:.2f} ms  (one image, one thread, kernel {bench['kernel']})"),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"  {name:<{width}}  {value}" for name, value in rows))

    faults = []
    if round(metrics["accuracy"] * served["images"]) != served["right"]:
        faults.append("the served accuracy is not the job's")
    if served["accuracy"] < given.floor:
        faults.append(f"the served accuracy is below {100 * given.floor:.0f} %")
    sys.exit("; ".join(faults) or None)


if __name__ == "__main__":
    main()
