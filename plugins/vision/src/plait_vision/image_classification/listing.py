"""What is a listed example, before any pixel is read?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plait.data import Table
from plait_vision.images import ImageError


@dataclass(frozen=True, slots=True)
class Cell:
    """An image in a column, read when it is wanted: a path, a file's bytes, or the {bytes, path} of `datasets`.

    Args:
        column: gives a cell's value by its row.
        folder: what relative paths start from.
    """

    column: Any
    row: int
    folder: Path

    def image(self) -> Any:
        """A path or bytes.

        Raises:
            ImageError: the cell is null or holds something else.
        """
        value = self.column[self.row]
        value = value.as_py() if hasattr(value, "as_py") else value
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if value is None:
            raise ImageError("is null")
        return self.folder / value if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Row:
    """Where a table's row is; its line is looked up when somebody reads it."""

    table: Table
    row: int
    image: str = ""

    def __str__(self) -> str:
        return self.table.where(self.row) + (f" ({self.image})" if self.image else "")


@dataclass(frozen=True, slots=True)
class Item:
    """One listed example.

    Args:
        image: a path, bytes, an array, a PIL image, or a Cell.
        label: its class as the source writes it.
        id: unique in its source.
        where: what an error message calls it; its `str` counts.
    """

    image: Any
    label: str
    id: str
    where: Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one example."""

    where: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.where} {self.reason}"


@dataclass(slots=True)
class Listing:
    """What a source lists.

    Args:
        parts: the examples by split; under "" where the source names no splits.
        faults: examples that cannot be listed: without label, without image.
        empty: class folders that hold no image, by split.
        classes: the order of classes that the source itself states.
        ignored: files that are no images, by name or suffix.
    """

    parts: dict[str, list[Item]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    empty: dict[str, list[str]] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, image: Any, label: Any, *, id: str, where: Any) -> None:
        """List an example, or the reason why it cannot be."""
        name = label_name(label)
        if image is None or (isinstance(image, str) and not image):
            self.faults.append(Fault(where, "has no image (null or empty)"))
        elif name is None:
            self.faults.append(Fault(where, f"has no label: found {label!r}, expected a name or a whole number"))
        else:
            self.parts.setdefault(split, []).append(Item(image, name, id, where))

    def make_ids_unique(self) -> None:
        """Number the ids that occur again: a table may list a file twice, and results are joined by id."""
        seen: Counter[str] = Counter()
        for items in self.parts.values():
            for position, item in enumerate(items):
                seen[item.id] += 1
                if seen[item.id] > 1:
                    items[position] = replace(item, id=f"{item.id}#{seen[item.id]}")


def label_name(label: Any) -> str | None:
    """A class's name from a label cell: text as it is, whole numbers in decimal; None where there is no label."""
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, float) and label.is_integer():  # pandas writes 3 as 3.0 beside a null
        label = int(label)
    if isinstance(label, str):
        return label if label.strip() else None
    return str(label) if isinstance(label, int) else None


def several(names: Iterable[object], *, most: int = 10) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f", and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(str, listed[:most])) + more
