"""How does a file, an array or a PIL image become pixels?"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 178_956_970
"""PIL's limit against decompression bombs, pixels: 512 MiB as RGB."""

# What PIL may decode. Not EPS, which PIL hands to Ghostscript (we execute nothing), nor formats that it only names.
_FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip

IMAGE_SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dds", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
        *(".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
    )
)
"""How image files are usually called. Files are judged by their bytes; this is for messages."""

# EXIF tag 274 and what undoes it, as names of PIL.Image.Transpose
_ORIENTATION = 274
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class ImageError(ValueError):
    """Why something is no image that can be read. It does not know where it lay: whoever read it adds that."""


@dataclass(frozen=True, slots=True)
class ImageExample:
    """A decoded image and what is known of it.

    Args:
        image: [height, width, channels], uint8, or uint16 for 16-bit images; one channel (grey) or three (RGB).
        label: the class name; None where it is to be predicted.
        id: where the image came from, in the words of its source: "cat/001.png".
    """

    image: np.ndarray
    label: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of an image and its number of channels, 1 or 3."""

    height: int
    width: int
    channels: int


def read_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of an image, upright: [height, width, channels], uint8 or uint16, one channel (grey) or three (RGB).

    Grey stays grey, 16-bit grey stays 16-bit; palettes, CMYK and 16-bit colour become 8-bit RGB; transparent images are
    laid on white; EXIF orientation is applied; of an animation the first frame counts. Arrays are [height, width] or
    [height, width, 1 to 4 channels]; floating-point pixels must be in [0, 1] and become uint8.

    Args:
        source: a path, a file's bytes, a PIL image or a NumPy array.

    Raises:
        ImageError: it is none of these, is broken, or has more than `max_pixels` pixels.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    with _quiet:
        image = source if _is_pil(source) else _opened(_bytes(source), max_pixels)
        _check_size(image.size[1], image.size[0], max_pixels)
        try:
            image.load()
            return _pixels(_upright(image))
        except ImageError:
            raise
        except Exception as error:  # a decoder may raise anything on foreign bytes
            raise ImageError(f"is broken or truncated: {_said(error)}") from error


def read_shape(source: Any, *, max_pixels: int = MAX_PIXELS) -> Shape:
    """The shape that `read_image` will give, from the header where there is one; errors as there.

    A truncated file passes, and the EXIF orientation of a PNG that has it behind its pixels is missed: only decoding
    finds these.
    """
    if isinstance(source, np.ndarray) or _is_pil(source):
        height, width, channels = read_image(source, max_pixels=max_pixels).shape
        return Shape(height, width, channels)
    with _quiet:
        image = _opened(_bytes(source), max_pixels)
        width, height = image.size
        if image.format == "PNG" and "exif" not in image.info:
            turned = False  # PIL would decode all pixels to look for EXIF behind them
        else:
            turned = _orientation(image) >= 5
        if turned and image.format == "TIFF":  # PIL turns these itself, on opening or on loading by version
            height, width = read_image(source, max_pixels=max_pixels).shape[:2]
        elif turned:
            height, width = width, height
        return Shape(height, width, 1 if _is_grey(image) else 3)


def _is_pil(source: Any) -> bool:
    from PIL import Image

    return isinstance(source, Image.Image)


class _Quiet:
    """Silences PIL's warnings: of what does not matter (a corrupt EXIF block beside good pixels), or of what we refuse
    ourselves. Threads share it, since `warnings` has one list of filters: the first in saves it, the last out restores
    it; with a `catch_warnings` each, one thread's silence would outlast them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = ExitStack()
        # Some of PIL's plugins log errors that they raise as well; without any handler these would go to stderr.
        logging.getLogger("PIL").addHandler(logging.NullHandler())

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._saved.close()


_quiet = _Quiet()


def _bytes(source: Any) -> bytes:
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            source = path.read_bytes()
        except FileNotFoundError:
            raise ImageError("no such file") from None
        except IsADirectoryError:
            raise ImageError("is a folder, not an image file") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
            raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(source, bytes | bytearray | memoryview):
        raise ImageError(
            f"is {type(source).__name__}; expected a path, an image file's bytes, a PIL image or a NumPy array"
            " [height, width, channels]"
        )
    if not len(source):
        raise ImageError("is empty (zero bytes)")
    return bytes(source)


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        raise ImageError("is not an image, or in no supported format") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"is a decompression bomb: {error}") from error
    except Exception as error:  # a decoder may raise anything on foreign bytes
        raise ImageError(f"has a broken header: {_said(error)}") from error
    _check_size(image.size[1], image.size[0], max_pixels)
    return image


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # a PIL may be built without AVIF


def _check_size(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise ImageError(
            f"has {width:,} x {height:,} = {height * width:,} pixels, more than data.max_pixels={max_pixels:,}:"
            " a decompression bomb?"
        )
    if not height * width:
        raise ImageError(f"has no pixels ({width} x {height})")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:
        raise ImageError(f"has broken EXIF data: {_said(error)}") from error
    return found if found in _UPRIGHT else 1


def _upright(image: Image.Image) -> Image.Image:
    from PIL import Image

    orientation = _orientation(image)
    return image.transpose(Image.Transpose[_UPRIGHT[orientation]]) if orientation != 1 else image


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def _pixels(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _from_array(_deep(np.asarray(image)), image.width * image.height)
    grey = _is_grey(image)
    if mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        from PIL import Image

        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if grey else "RGB")
    pixels = np.array(image)
    return pixels[:, :, None] if grey else pixels


def _deep(pixels: np.ndarray) -> np.ndarray:
    """Pixels of more than 8 bits: uint16 where they fit, else as they are."""
    if pixels.dtype.kind == "f":
        return pixels
    if pixels.size and (pixels.min() < 0 or pixels.max() > 65_535):
        raise ImageError(f"has pixels from {pixels.min()} to {pixels.max()}; expected 0 to 65,535 (16 bits)")
    return pixels.astype(np.uint16)


def _from_array(pixels: np.ndarray, max_pixels: int) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        turned = pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4)
        raise ImageError(
            f"is an array of shape {list(pixels.shape)}; expected [height, width] or [height, width, channels]"
            + ("; channels come last: numpy.moveaxis(image, 0, -1)" if turned else "")
        )
    _check_size(pixels.shape[0], pixels.shape[1], max_pixels)
    if pixels.dtype.kind == "f":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ImageError(
                f"has floating-point pixels from {pixels.min():g} to {pixels.max():g}; expected 0 to 1, or uint8"
            )
        pixels = np.rint(pixels * 255).astype(np.uint8)
    elif pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"is an array of {pixels.dtype}; expected uint8, uint16 or floating point in [0, 1]:"
            " where it holds 0 to 255, image.astype('uint8')"
        )
    if pixels.shape[2] in (2, 4):
        white = np.iinfo(pixels.dtype).max
        alpha = pixels[:, :, -1:].astype(np.float64) / white
        pixels = np.rint(pixels[:, :, :-1] * alpha + white * (1 - alpha)).astype(pixels.dtype)
    return np.ascontiguousarray(pixels)
