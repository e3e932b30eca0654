"""Pictures of every kind that is read, and what Pillow and torchvision make of them.

    .venv-bench/bin/python data/tests/golden/make.py

writes the pictures, the results as PNG and index.json beside this script. Made with Pillow 13.0.0 and torchvision 0.28.0;
tests read the files and need no Python.
"""

import json
import pathlib
import struct

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.functional import resized_crop

HERE = pathlib.Path(__file__).parent
MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


def scene(height, width):
    """Smooth colours, an edge, a fine pattern."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 128 + 110 * np.sin(x / 5 + y / 9)
    green = 255 * x / max(width - 1, 1)
    blue = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(height, width) / 3) ** 2, 230, 20)
    blue = blue + 20 * ((x + y) % 2)
    return Image.fromarray(np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8))


def save16(path, rgb):
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    import zlib

    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def pictures():
    rgb = scene(17, 23)
    gray = rgb.convert("L")
    alpha = Image.fromarray((np.mgrid[0:17, 0:23][1] * 11).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    la = gray.copy()
    la.putalpha(alpha)
    palette = rgb.quantize(40)
    saves = {
        "gray.png": (gray, {}),
        "rgb.png": (rgb, {}),
        "rgba.png": (rgba, {}),
        "la.png": (la, {}),
        "palette.png": (palette, {}),
        "palette-transparent.png": (palette, {"transparency": bytes(range(0, 240, 6))}),
        "bit.png": (gray.convert("1"), {}),
        "gray.jpg": (gray, {"quality": 90}),
        "rgb-444.jpg": (rgb, {"quality": 90, "subsampling": 0}),
        "rgb-420.jpg": (rgb, {"quality": 90, "subsampling": 2}),
        "rgb-422.jpg": (rgb, {"quality": 90, "subsampling": 1}),
        "progressive.jpg": (rgb, {"quality": 90, "progressive": True}),
        "lossy.webp": (rgb, {"quality": 80}),
        "lossless.webp": (rgb, {"lossless": True}),
        "alpha.webp": (rgba, {"lossless": True, "exact": True}),
        "rgb.bmp": (rgb, {}),
        "rgba.bmp": (rgba, {}),
        "palette.bmp": (palette, {}),
        "gray.bmp": (gray, {}),
    }
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[274] = turn
        saves[f"turned-{turn}.jpg"] = (rgb, {"quality": 95, "subsampling": 0, "exif": exif})
    exif = Image.Exif()
    exif[274] = 6
    saves["turned-6.png"] = (rgb, {"exif": exif})
    saves["turned-6.webp"] = (rgb, {"lossless": True, "exif": exif})
    rgb.convert("CMYK").save(HERE / "cmyk.jpg")
    gray.convert("1").save(HERE / "bit.bmp")
    for name, (image, options) in saves.items():
        image.save(HERE / name, **options)
    deep = np.asarray(rgb).astype(np.uint16) * 256 + np.arange(256, dtype=np.uint16)[::-1][:23][None, :, None]
    save16(HERE / "rgb16.png", deep)
    found = []
    for name in [*saves, "rgb16.png"]:
        image = ImageOps.exif_transpose(Image.open(HERE / name))
        entry = {"file": name}
        for mode in ["RGB", "L"]:
            entry[mode] = f"{name}.{mode}.png"
            image.convert(mode).save(HERE / entry[mode])
        found.append(entry)
    return found


def transforms():
    scene(61, 83).save(HERE / "scene.png")
    cases = []

    def case(name, image, preprocess):
        image.save(HERE / f"{name}.png")
        cases.append({"result": f"{name}.png", "preprocess": preprocess})

    image = Image.open(HERE / "scene.png")
    for mode, interpolation in MODES.items():
        for short in [24, 72]:
            resized = CenterCrop([20, 22])(Resize(short, interpolation)(image))
            spec = {"resize": {"shorter": short}, "crop": [20, 22], "interpolation": mode, "color": "rgb"}
            case(f"shorter-{short}-{mode}", resized, spec)
        for height, width in [(32, 32), (90, 31)]:
            exact = image.resize((width, height), MODES_OF_PILLOW[mode])
            spec = {"resize": {"exact": [height, width]}, "interpolation": mode, "color": "rgb"}
            case(f"exact-{height}-{width}-{mode}", exact, spec)
    gray = CenterCrop(21)(Resize(30)(image.convert("L")))
    case("shorter-30-gray", gray, {"resize": {"shorter": 30}, "crop": [21, 21], "interpolation": "bilinear", "color": "gray"})
    padded = CenterCrop([64, 91])(image)
    case("padded", padded, {"crop": [64, 91], "interpolation": "bilinear", "color": "rgb"})
    cropped = CenterCrop([64, 40])(image)
    case("cropped", cropped, {"crop": [64, 40], "interpolation": "bilinear", "color": "rgb"})
    box = [11, 7, 37, 45]
    resized_crop(image, *box, [28, 24]).save(HERE / "box.png")
    return cases, {"box": box, "size": [28, 24], "result": "box.png"}


def nearest():
    """Which pixels Pillow takes of a row, and of a column: both are walked alike."""
    cases = []
    for start in (50, 78, 80, 107, 150, 176, 232, 333, 375, 480, 500, 640):
        for wanted in (7, 24, 32, 48, 64, 96, 100, 224, 256, 299):
            row = Image.fromarray(np.arange(start, dtype=np.int32)[None])
            taken = np.asarray(row.resize((wanted, 1), Image.Resampling.NEAREST))[0].tolist()
            column = Image.fromarray(np.arange(start, dtype=np.int32)[:, None])
            assert taken == np.asarray(column.resize((1, wanted), Image.Resampling.NEAREST))[:, 0].tolist()
            cases.append({"from": start, "to": wanted, "taken": taken})
    return cases


MODES_OF_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def main():
    found = pictures()
    cases, box = transforms()
    index = {"pictures": found, "transforms": cases, "resized_crop": box}
    text = json.dumps(index, indent=1).removesuffix("\n}")
    rows = ",\n".join(f"  {json.dumps(case, separators=(',', ':'))}" for case in nearest())
    (HERE / "index.json").write_text(f'{text},\n "nearest": [\n{rows}\n ]\n}}\n')


if __name__ == "__main__":
    main()
