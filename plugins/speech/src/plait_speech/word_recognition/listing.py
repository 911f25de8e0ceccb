"""What is a listed recording, before any sample is read?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plait.data import Table
from plait_speech.audio import AudioError


@dataclass(frozen=True, slots=True)
class Cell:
    """Audio in a column, read when it is wanted: a file's bytes, or the {bytes, path} of `datasets`.

    Args:
        column: gives a cell's value by its row.
        folder: what relative paths start from.
    """

    column: Any
    row: int
    folder: Path

    def audio(self) -> Any:
        """A path, bytes, or {"array", "sampling_rate"}.

        Raises:
            AudioError: the cell is null.
        """
        value = self.column[self.row]
        value = value.as_py() if hasattr(value, "as_py") else value
        if isinstance(value, Mapping) and "array" not in value:
            value = value.get("bytes") or value.get("path")
        if value is None:
            raise AudioError("is null")
        return self.folder / value if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Row:
    """Where a table's row is; its line is looked up when somebody reads it."""

    table: Table
    row: int
    audio: str = ""

    def __str__(self) -> str:
        return self.table.where(self.row) + (f" ({self.audio})" if self.audio else "")


@dataclass(frozen=True, slots=True)
class Item:
    """One listed recording, or segment of one.

    Args:
        audio: what `read_audio` reads, or a `Cell`.
        label: its class as the source writes it.
        speaker: "" where the source does not say.
        id: unique in its source.
        where: what an error message calls it; its `str` counts.
        start, end: the segment, seconds; None: the whole.
    """

    audio: Any
    label: str
    speaker: str
    id: str
    where: Any
    start: float | None = None
    end: float | None = None


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
        parts: the recordings by split; under "" where the source names no splits.
        faults: recordings that cannot be listed: without label, without audio.
        empty: class folders that hold no recording, by split.
        ignored: files that are no audio, by suffix.
    """

    parts: dict[str, list[Item]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    empty: dict[str, list[str]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(
        self, split: str, audio: Any, label: Any, *, id: str, where: Any, speaker: Any = None, start: Any = None,
        end: Any = None,
    ) -> None:  # fmt: skip
        """List a recording, or the reason why it cannot be."""
        name = text(label)
        times = [_seconds(each) for each in (start, end)]
        if audio is None or (isinstance(audio, str | bytes) and not audio):
            self.faults.append(Fault(where, "has no audio (null or empty)"))
        elif name is None:
            self.faults.append(Fault(where, f"has no label: found {label!r}, expected a name or a whole number"))
        elif any(each is not None and not each >= 0 for each in times):  # NaN is no time, either
            self.faults.append(Fault(where, f"has start {start!r} and end {end!r}; expected seconds, or nothing"))
        else:
            self.parts.setdefault(split, []).append(Item(audio, name, text(speaker) or "", id, where, *times))

    def make_ids_unique(self) -> None:
        """Number the ids that occur again: a table may list a file twice, and results are joined by id."""
        seen: Counter[str] = Counter()
        for items in self.parts.values():
            for position, item in enumerate(items):
                seen[item.id] += 1
                if seen[item.id] > 1:
                    items[position] = replace(item, id=f"{item.id}#{seen[item.id]}")


def text(value: Any) -> str | None:
    """A name from a cell: text as it is, whole numbers in decimal; None where there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():  # pandas writes 3 as 3.0 beside a null
        value = int(value)
    if isinstance(value, str):
        return value if value.strip() else None
    return str(value) if isinstance(value, int) else None


def _seconds(value: Any) -> float | None:
    """A time; None where there is none, NaN where it is something else."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def several(names: Iterable[object], *, most: int = 10) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f", and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(str, listed[:most])) + more
