"""How files, arrays and PIL images become pixels."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from plait_vision.images import ImageError, read_image, read_shape

RAMP = (np.arange(12 * 8 * 3) % 256).astype(np.uint8).reshape(8, 12, 3)
DEEP = (np.arange(12 * 8) * 600).astype(np.uint16).reshape(8, 12)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def test_colour_and_grey_stay_what_they_are() -> None:
    assert np.array_equal(read_image(encoded(Image.fromarray(RAMP), "PNG")), RAMP)
    grey = read_image(encoded(Image.fromarray(RAMP[:, :, 0]), "PNG"))
    assert grey.shape == (8, 12, 1)
    assert np.array_equal(grey[:, :, 0], RAMP[:, :, 0])


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_stay_sixteen(format_: str) -> None:
    pixels = read_image(encoded(Image.fromarray(DEEP), format_))
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels[:, :, 0], DEEP)


def test_black_and_white_and_palettes_and_cmyk() -> None:
    binary = read_image(encoded(Image.fromarray(RAMP[:, :, 0]).convert("1"), "PNG"))
    assert set(np.unique(binary)) == {0, 255}
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert read_image(encoded(palette, "PNG")).tolist() == [[[200, 100, 50]] * 4] * 2
    cmyk = read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(cmyk.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (2, 2), (200, 0, 0, 0)), [255, 255, 255]),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 127)), [128, 128, 128]),
        (Image.new("LA", (2, 2), (10, 0)), [255]),
        (Image.new("LA", (2, 2), (10, 255)), [10]),
    ],
)
def test_transparent_images_lie_on_white(image: Image.Image, expected: list[int]) -> None:
    assert read_image(encoded(image, "PNG"))[0, 0].tolist() == expected
    assert read_image(np.asarray(image))[0, 0].tolist() == expected


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert read_image(encoded(palette, "PNG", transparency=1))[0, 0].tolist() == [255, 255, 255]
    assert read_image(encoded(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))).min() == 255


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(format_: str, orientation: int) -> None:
    if not features.check("webp") and format_ == "WEBP":
        pytest.skip("this PIL has no WebP")
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste((0, 0, 0), (0, 0, 16, 8))  # black at the top left
    turn = [None, 0, 3, 1, 5, 2, 6, 4][orientation - 1]  # what a camera held like that would have stored
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(stored, format_, exif=exif)
    pixels = read_image(data)
    assert pixels.shape == (16, 32, 3)
    assert (pixels[:4, :12] < 64).all()
    assert (pixels[12:] > 192).all()
    shape = read_shape(data)
    assert (shape.height, shape.width, shape.channels) == (16, 32, 3)


def test_arrays_and_pil_images_and_paths(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "ramp.png")
    for source in (RAMP, Image.fromarray(RAMP), tmp_path / "ramp.png", str(tmp_path / "ramp.png"), RAMP / 255.0):
        assert np.array_equal(read_image(source), RAMP)
    assert read_image(DEEP).dtype == np.uint16
    assert read_image(RAMP[:, :, 0] > 100).max() == 255
    assert read_shape(RAMP[:, :, 0]).channels == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (RAMP.astype(np.int64), r"array of int64.*astype\('uint8'\)"),
        (RAMP.astype(np.float32), r"from 0 to 255; expected 0 to 1"),
        (np.full((2, 2), np.nan), "floating-point pixels from nan"),
        (np.moveaxis(RAMP, -1, 0), r"shape \[3, 8, 12\].*channels come last"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (b"", "zero bytes"),
        (b"not an image at all", "is not an image"),
        (encoded(Image.fromarray(RAMP), "PNG")[:-30], "truncated"),
        (encoded(Image.fromarray(RAMP), "JPEG")[:-40], "truncated"),
        (encoded(Image.fromarray(np.full((2, 2), -1, np.int32)), "TIFF"), "expected 0 to 65,535"),
        (42, "is int; expected a path"),
        (Path("nowhere.png"), "no such file"),
        (Path(), "is a folder"),
    ],
)
def test_what_is_no_image_says_so(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(source)


def test_decompression_bombs_are_refused_before_they_are_decoded() -> None:
    data = encoded(Image.new("1", (4000, 4000)), "PNG")
    with pytest.raises(ImageError, match=r"4,000 x 4,000 = 16,000,000 pixels, more than data\.max_pixels=1,000,000"):
        read_image(data, max_pixels=1_000_000)
    huge = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(ImageError, match="decompression bomb"):
        read_shape(huge)


def test_postscript_is_never_handed_to_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def run(*arguments: object, **options: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    with pytest.raises(ImageError, match="in no supported format"):
        read_image(encoded(Image.new("RGB", (4, 4)), "EPS"))


def test_warnings_of_pil_stay_inside_and_filters_come_back(recwarn: pytest.WarningsRecorder) -> None:
    corrupt = encoded(Image.new("RGB", (8, 4)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(corrupt) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_image(corrupt).shape == (4, 8, 3)
    assert not recwarn.list
    assert list(warnings.filters) == before


def test_what_pil_logs_does_not_reach_the_terminal(tmp_path: Path) -> None:
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"  # TIFF tag 277, samples per pixel: a short, one value
    data = encoded(Image.new("RGB", (4, 4)), "TIFF")
    (tmp_path / "odd.tif").write_bytes(data.replace(samples + b"\x03", samples + b"\x71"))
    program = "import sys; from plait_vision.images import read_image; read_image(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "odd.tif")], capture_output=True, text=True)
    assert done.stderr.rstrip().endswith("not an image, or in no supported format"), done.stderr
    assert "More samples per pixel than can be decoded" not in done.stderr
