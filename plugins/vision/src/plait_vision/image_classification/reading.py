"""Which of the listed images are sound, and how are they read again?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plait.checking import Sound, examine
from plait.classes import Classes
from plait.data import TABLE_SUFFIXES, digest
from plait.errors import DataError
from plait.listing import Fault, Item, Media
from plait_vision.images import IMAGE_SUFFIXES, ImageError, ImageExample, Shape, read_image, read_shape

CACHE_BYTES = 512 << 20
"""Decoded images of this size in all are kept in memory under `data.cache=auto`."""

_HEAD = 65_536  # bytes of a file that `data.verify=header` takes into the fingerprint


def _unpack(value: Any) -> Mapping[str, Any] | None:
    if not isinstance(value, ImageExample):
        return None
    return {"image": value.image, "label": value.label, "id": value.id}


IMAGES = Media(
    field="image",
    noun="image",
    suffixes=IMAGE_SUFFIXES,
    supported="a folder per class (also below train, valid and test folders), folders with data.pattern, a table with"
    f" the columns image and label ({', '.join(TABLE_SUFFIXES)}), or a datasets directory",
    # what lies beside images and is none, such as Thumbs.db, desktop.ini and LICENSE.txt: counted, not read
    sidecars=frozenset(
        (
            *(".csv", ".db", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".ndjson", ".parquet", ".py"),
            *(".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
        )
    ),
    arrays=("images", "labels"),
    unpack=_unpack,
)
"""Images and their labels, as `plait.sources.list_source` reads them."""


class ImageSplit(Sequence[ImageExample]):
    """The examples of one split, decoded when they are asked for unless they are in memory. It knows no other split.

    `targets` (the labels) and `ids` give one text for each example and `shapes` gives [examples, 3] (height, width,
    channels), all without decoding; `classes` are the classes of the run, in the order of a model's outputs.
    """

    def __init__(
        self, items: Sequence[Item], sound: Sequence[Sound[Shape]], *, classes: Classes, max_pixels: int
    ) -> None:
        self.classes = classes.names
        self.targets = [classes.of(item) for item in items]
        self.ids = [item.id for item in items]
        self.shapes = np.array([(s.about.height, s.about.width, s.about.channels) for s in sound]).reshape(-1, 3)
        self.digests = [each.digest for each in sound]
        self.in_memory = all(each.content is not None for each in sound)
        self._images = [item if s.content is None else s.content for item, s in zip(items, sound, strict=True)]
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        image = self._images[index]
        if isinstance(image, Item):
            try:
                image = read_image(_content(image), max_pixels=self._max_pixels)
            except ImageError as error:
                raise DataError(
                    f"{self.ids[index]} {error}", hint="it was sound when training began: was the data set changed?"
                ) from error
        return ImageExample(image, self.targets[index], self.ids[index])

    def __iter__(self) -> Iterator[ImageExample]:
        return (self[position] for position in range(len(self)))


def check_images(
    items: Sequence[Item], *, verify: Literal["full", "header"], max_pixels: int, cache: bool | Literal["auto"]
) -> tuple[dict[int, Sound[Shape]], list[Fault]]:
    """Read every image once: decode it (or its header), and hash its bytes (of size and head under "header").

    Returns:
        What is known of the good ones by position, and the faults of the others.
    """

    def check(item: Item) -> Sound[Shape]:
        return _check(item, verify, max_pixels)

    return examine(items, check, error=ImageError, cache=cache, cache_bytes=CACHE_BYTES)


def _content(item: Item) -> Any:
    image = item.read()
    if image is None:
        raise ImageError("is null")
    return image


def _check(item: Item, verify: str, max_pixels: int) -> Sound[Shape]:
    image = _content(item)
    if isinstance(image, str | Path) and verify == "full":
        image = _contents(Path(image))
    if verify == "full" or not isinstance(image, str | Path | bytes):
        pixels = read_image(image, max_pixels=max_pixels)
        content = image if isinstance(image, bytes) else f"{pixels.shape}{pixels.dtype}".encode() + pixels.tobytes()
        height, width, channels = pixels.shape
        return Sound(Shape(height, width, channels), digest(content), pixels)
    shape = read_shape(image, max_pixels=max_pixels)
    if isinstance(image, bytes):
        return Sound(shape, digest(b"%d:" % len(image) + image[:_HEAD]))
    with Path(image).open("rb") as file:
        return Sound(shape, digest(b"%d:" % os.fstat(file.fileno()).st_size + file.read(_HEAD)))


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
