"""Which of the listed images are sound, and which split is each in?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plait.data import carve, digest, fingerprint
from plait.errors import DataError
from plait_vision.image_classification.labels import Classes
from plait_vision.image_classification.listing import Cell, Fault, Item, several
from plait_vision.images import ImageError, ImageExample, Shape, read_image, read_shape

CACHE_BYTES = 512 << 20
"""Decoded images of this size in all are kept in memory under `data.cache=auto`."""

_HEAD = 65_536  # bytes of a file that `data.verify=header` takes into the fingerprint
_AT_ONCE = 1024  # images in flight: bounds memory, keeps the threads busy


@dataclass(frozen=True, slots=True)
class Sound:
    """What checking found out about a good image.

    Args:
        digest: of the file's bytes or the array (of size and head under `data.verify=header`).
        pixels: kept where they fit in memory.
    """

    shape: Shape
    digest: str
    pixels: np.ndarray | None = None


class ImageSplit(Sequence[ImageExample]):
    """The examples of one split, decoded when they are asked for unless they are in memory. It knows no other split.

    `labels` and `ids` give one text for each example and `shapes` gives [examples, 3] (height, width, channels),
    all without decoding; `classes` are the classes of the run, in the order of a model's outputs.
    """

    def __init__(self, items: Sequence[Item], sound: Sequence[Sound], *, classes: Classes, max_pixels: int) -> None:
        self.classes = classes.names
        self.labels = [classes.of(item) for item in items]
        self.ids = [item.id for item in items]
        self.shapes = np.array([(s.shape.height, s.shape.width, s.shape.channels) for s in sound]).reshape(-1, 3)
        self.digests = [each.digest for each in sound]
        self.in_memory = all(each.pixels is not None for each in sound)
        self._images = [item.image if s.pixels is None else s.pixels for item, s in zip(items, sound, strict=True)]
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        image = self._images[index]
        if not self.in_memory:
            try:
                image = read_image(_pixels_of(image), max_pixels=self._max_pixels)
            except ImageError as error:
                raise DataError(
                    f"{self.ids[index]} {error}", hint="it was sound when training began: was the data set changed?"
                ) from error
        return ImageExample(image, self.labels[index], self.ids[index])

    def __iter__(self) -> Iterator[ImageExample]:
        return (self[position] for position in range(len(self)))


def _pixels_of(image: Any) -> Any:
    return image.image() if isinstance(image, Cell) else image


# Splitting


def partition(
    parts: Mapping[str, Sequence[Item]],
    *,
    how: Literal["auto", "given", "random", "stratified"],
    valid_fraction: float,
    test_fraction: float,
    seed: int,
    fixed: bool,
) -> dict[str, list[Item]]:
    """The examples of train, valid and test, as the source names them or as the task draws them.

    Args:
        fixed: the classes are fixed by an option or a trained run, so that train may lack some, or be missing.

    Raises:
        DataError: the splits asked for cannot be had: none is named, no train, a class too small to be divided.
    """
    named = {split: list(items) for split, items in parts.items() if split and items}
    if how == "given":
        if not named:
            raise DataError(
                "data.split=given, but the data name no splits",
                hint="name folders or tables train, valid and test, or set data.split=auto",
            )
        if not fixed and len(named) < 2:
            missing = "train" if "train" not in named else "valid and test"
            raise DataError(
                f"data.split=given, but there is no {missing}; the data have {', '.join(named)}",
                hint="add it, or set data.split=auto, which carves a missing valid from train",
            )
    if named and how in ("auto", "given"):
        if "train" not in named and not fixed:
            raise DataError(
                f"there is no train; the data have {', '.join(named)}",
                hint="name a folder or table train, or set data.split=stratified to divide all data anew",
            )
        if how == "auto" and "train" in named and "valid" not in named:
            if not fixed:
                _check_divisible(named["train"], {"valid": valid_fraction})
            named = _carved(named, "valid", valid_fraction, seed, stratify=True)
        return {split: named[split] for split in ("train", "valid", "test") if split in named}
    drawn = {"train": list(chain.from_iterable(parts.values()))}
    if how != "random" and not fixed:
        _check_divisible(drawn["train"], {"test": test_fraction, "valid": valid_fraction})
    for split, fraction in (("test", test_fraction), ("valid", valid_fraction)):
        drawn = _carved(drawn, split, fraction, seed, stratify=how != "random")
    return {split: drawn[split] for split in ("train", "valid", "test") if drawn.get(split)}


def _check_divisible(items: Sequence[Item], fractions: Mapping[str, float]) -> None:
    wanted = [split for split, fraction in fractions.items() if fraction]
    counts = Counter(item.label for item in items)
    single = [label for label, count in counts.items() if count == 1]
    if not wanted or not single or len(counts) < 2:  # one class only is another error
        return
    first = next(str(item.where) for item in items if item.label == single[0])
    zero = " ".join(f"data.{split}_fraction=0" for split in wanted)
    raise DataError(
        f"{len(single)} classes have one image only, which cannot be in both train and {wanted[0]}:"
        f" {several(map(repr, single))} (first {first})",
        hint=f"add images, name the splits in the data, or set data.split=random (it stays in train) or {zero}",
        details={"classes": single[:100], "total": len(single)},
    )


def _carved(
    parts: dict[str, list[Item]], split: str, fraction: float, seed: int, *, stratify: bool
) -> dict[str, list[Item]]:
    items = parts["train"]
    rest, part = carve([item.label for item in items], fraction=fraction, seed=seed, stratify=stratify)
    carved = parts | {"train": [items[index] for index in rest]}
    return carved | {split: [items[index] for index in part]} if len(part) else carved


# Checking


def check_images(
    items: Sequence[Item], *, verify: Literal["full", "header"], max_pixels: int, cache: bool | Literal["auto"]
) -> tuple[dict[int, Sound], list[Fault]]:
    """Read every image once, in threads: decode it (or its header), and hash it.

    Returns:
        What is known of the good ones by position, and the faults of the others.
    """
    sound: dict[int, Sound] = {}
    faults: list[tuple[str, Fault]] = []
    held, keep = 0, cache is not False

    def check(item: Item) -> Sound | Fault:
        try:
            return _check(item, verify, max_pixels, keep=keep)
        except ImageError as error:
            return Fault(item.where, str(error))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _AT_ONCE):
            for position, found in enumerate(pool.map(check, items[start : start + _AT_ONCE]), start):
                if isinstance(found, Fault):
                    faults.append((items[position].id, found))
                    continue
                sound[position] = found
                held += 0 if found.pixels is None else found.pixels.nbytes
            if keep and cache == "auto" and held > CACHE_BYTES:
                keep = False
                sound = {key: Sound(each.shape, each.digest) for key, each in sound.items()}
    return sound, [fault for _, fault in sorted(faults, key=lambda each: each[0])]


def _check(item: Item, verify: str, max_pixels: int, *, keep: bool) -> Sound:
    image = _pixels_of(item.image)
    if isinstance(image, str | Path) and verify == "full":
        image = _contents(Path(image))
    if verify == "full" or not isinstance(image, str | Path | bytes):
        pixels = read_image(image, max_pixels=max_pixels)
        content = image if isinstance(image, bytes) else f"{pixels.shape}{pixels.dtype}".encode() + pixels.tobytes()
        height, width, channels = pixels.shape
        return Sound(Shape(height, width, channels), digest(content), pixels if keep else None)
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


def shared(splits: Mapping[str, ImageSplit]) -> list[str]:
    """Notes on images that are byte for byte in two splits: what was trained on is then judged, too."""
    notes = []
    for one, other in combinations(splits, 2):
        first = dict(zip(reversed(splits[one].digests), reversed(splits[one].ids), strict=True))
        pairs = [
            (first[each], id_)
            for each, id_ in zip(splits[other].digests, splits[other].ids, strict=True)
            if each in first
        ]
        if pairs:
            notes.append(
                f"{len(pairs)} of {len(splits[other])} images of {other} are also in {one}, byte for byte:"
                f" first {pairs[0][1]} = {pairs[0][0]}"
            )
    return notes


def data_fingerprint(splits: Mapping[str, ImageSplit]) -> str:
    """A hash of what training sees: contents, labels and order of train and valid."""
    seen = [(name, splits[name]) for name in ("train", "valid") if name in splits]
    return fingerprint(
        value for name, split in seen for value in (name, str(len(split)), *split.digests, *split.labels)
    )
