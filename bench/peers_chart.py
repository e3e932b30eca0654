"""Draws the ratios of bench/peers.py, best int8 peer ÷ ours, as bars: longer is faster.

    .venv-bench/bin/python bench/peers_chart.py [out/peers/peers-full-1.json] [docs/engine-speed.svg]

Colors follow the reader's light or dark background.
"""

import argparse
import json
import math
import pathlib
import sys
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = {
    "resnet20": "ResNet-20", "vgg-small": "VGG-small", "resnet18": "ResNet-18", "resnet50": "ResNet-50", "mobilenet-v2": "MobileNetV2",
    "alexnet": "AlexNet", "vgg16": "VGG-16", "fc-alexnet": "AlexNet, fully connected", "fc-vgg16": "VGG-16, fully connected",
}  # fmt: skip
METHODS = {"aptq": "ternary", "apq4": "4 bits"}
WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 860, 190, 60, 84, 15, 14
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.faint { font-size: 11px; fill: #57606a }
.grid { stroke: #d0d7de }
.even { stroke: #24292f; stroke-dasharray: 4 3 }
.aptq { fill: #0969da }
.apq4 { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .faint { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .even { stroke: #e6edf3 }
  .aptq { fill: #58a6ff }
  .apq4 { fill: #f0883e }
}
"""


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def vertical(x, bottom, kind):
    return f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" class="{kind}"/>'


def bars(row, top, scale):
    """One network: its name, and a bar with its number for each method that it was measured with."""
    ours = {method: row["ours"][method]["ratios"]["best int8"] for method in METHODS if method in row["ours"]}
    yield text(LEFT - 10, top + len(ours) * BAR / 2 + 5, NAMES.get(row["network"], row["network"]), anchor="end")
    for index, (method, ratio) in enumerate(ours.items()):
        y = top + index * BAR
        if ratio is None:
            yield text(LEFT + 6, y + 12, "no int8 peer", "faint")
            continue
        yield f'<rect x="{LEFT}" y="{y}" width="{ratio * scale:.1f}" height="{BAR - 2}" class="{method}"/>'
        yield text(LEFT + ratio * scale + 6, y + 11, f"{ratio:.2f}")


def legend(methods):
    for index, method in enumerate(methods):
        x = LEFT + index * 100
        yield f'<rect x="{x}" y="44" width="12" height="12" class="{method}"/>'
        yield text(x + 18, 55, METHODS[method])


def chart(report):
    rows = report["rows"]
    methods = [method for method in METHODS if method in rows[0]["ours"]]
    ratios = [one["ratios"]["best int8"] or 0 for row in rows for one in row["ours"].values()]
    last = math.ceil(max([1, *ratios]))
    scale = (WIDTH - LEFT - RIGHT) / last
    step = len(methods) * BAR + GAP
    bottom = TOP + len(rows) * step
    parts = [text(20, 26, "Times as fast as the fastest int8 peer, batch 1", "title"), *legend(methods)]
    for tick in range(last + 1):
        x = LEFT + tick * scale
        parts += [vertical(x, bottom, "even" if tick == 1 else "grid"), text(x, TOP - 8, f"{tick} ×", "faint", "middle")]
    for index, row in enumerate(rows):
        parts += bars(row, TOP + index * step + GAP // 2, scale)
    notes = report["machine"].split("; ")
    parts += [text(20, bottom + 24 + 16 * index, note, "faint") for index, note in enumerate(notes)]
    height = bottom + 24 + 16 * len(notes)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    title = "<title>Speed of the engine against the fastest int8 peer, by network</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("source", nargs="?", type=pathlib.Path, default=ROOT / "out/peers/peers-full-1.json")
    arguments.add_argument("target", nargs="?", type=pathlib.Path, default=ROOT / "docs/engine-speed.svg")
    given = arguments.parse_args()
    source, target = given.source, given.target
    target.write_text(chart(json.loads(source.read_text())))


if __name__ == "__main__":
    main()
