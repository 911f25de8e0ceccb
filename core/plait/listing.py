"""What is a listed example of some medium, an image or a recording, before its content is read?"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from plait.errors import DataError
from plait.tables import Table

NOTHING: Mapping[str, Any] = MappingProxyType({})


def _no_example(value: Any) -> Mapping[str, Any] | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What a task's data consist of, as far as listing them goes. It knows no file and reads no content.

    Args:
        field: the column and the input port that hold the content: "image", "audio".
        noun: what a user calls one of them: "image", "recording"; its plural ends in s.
        suffixes: how such files are called, lower case.
        supported: what a source may be, for messages.
        sidecars: suffixes of files that lie beside and are none; every other file below a class folder is then taken
            for one and judged by its bytes. None: only files with `suffixes` are taken.
        target: the field that is learned: "label", "text"; None: there is none.
        classes: the target is one name of a few, and a folder's name may say it; else it is free text.
        more: further fields that are read where they are there; each with what makes a value of a cell, or raises a
            ValueError that says what was expected.
        arrays: the keys of a mapping that holds all contents and all targets: ("images", "labels").
        unpack: takes apart a Python row of the plugin's own type: its fields by name, and perhaps its "id"; None for a
            row that it does not know.
    """

    field: str
    noun: str
    suffixes: frozenset[str]
    supported: str
    sidecars: frozenset[str] | None = None
    target: str | None = "label"
    classes: bool = True
    more: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=lambda: NOTHING)
    arrays: tuple[str, str] | None = None
    unpack: Callable[[Any], Mapping[str, Any] | None] = _no_example

    @property
    def nouns(self) -> str:
        """The plural."""
        return f"{self.noun}s"

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that is read, the content first, without the split."""
        return tuple(dict.fromkeys((self.field, *([self.target] if self.target else []), *self.more)))

    def is_content(self, path: Path) -> bool:
        """Whether a file should hold such content, by its name."""
        suffix = path.suffix.lower()
        return suffix in self.suffixes if self.sidecars is None else suffix not in self.sidecars


@dataclass(frozen=True, slots=True)
class Cell:
    """Content in a column, read when it is wanted: a path, a file's bytes, or the {bytes, path} of `datasets`.

    Args:
        column: gives a cell's value by its row.
        folder: what relative paths start from.
    """

    column: Any
    row: int
    folder: Path

    def content(self) -> Any:
        """A path, bytes, or an {array, ...} of `datasets`; None where the cell is null."""
        value = self.column[self.row]
        value = value.as_py() if hasattr(value, "as_py") else value
        if isinstance(value, Mapping) and "array" not in value:
            value = value.get("bytes") or value.get("path")
        return self.folder / value if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Row:
    """Where a table's row is; its line is looked up when somebody reads it."""

    table: Table
    row: int
    content: str = ""

    def __str__(self) -> str:
        return self.table.where(self.row) + (f" ({self.content})" if self.content else "")


@dataclass(frozen=True, slots=True)
class Item:
    """One listed example.

    Args:
        content: a path, bytes, whatever the plugin reads, or a `Cell`.
        target: its class, or its text, as the source writes it; "" where the medium has no target.
        id: unique in its source.
        where: what an error message calls it; its `str` counts.
        more: the further fields that the source has for it.
    """

    content: Any
    target: str
    id: str
    where: Any
    more: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    def read(self) -> Any:
        """The content, out of its cell; None where that is null."""
        return self.content.content() if isinstance(self.content, Cell) else self.content


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
        media: what is listed.
        parts: the examples by split; under "" where the source names no splits.
        faults: examples that cannot be listed: without target, without content.
        empty: class folders that hold no example, by split.
        classes: the order of classes that the source itself states.
        ignored: files that are no such content, by name or suffix.
    """

    media: Media
    parts: dict[str, list[Item]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    empty: dict[str, list[str]] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    ignored: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def add(
        self, split: str, content: Any, target: Any, *, id: str, where: Any, more: Mapping[str, Any] = NOTHING
    ) -> None:
        """List an example, or the reason why it cannot be. Null, empty and NaN values of `more` are left out."""
        media, known = self.media, {}
        for name, value in more.items():
            if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
                continue
            try:
                known[name] = media.more[name](value)
            except ValueError as error:
                self.faults.append(Fault(where, f"has the {name} {value!r}; {error}"))
                return
        found = name_of(target) if media.target else ""
        if content is None or (isinstance(content, str | bytes) and not content):
            self.faults.append(Fault(where, f"has no {media.field} (null or empty)"))
        elif found is None:
            wanted = "a name or a whole number" if media.classes else "a text"
            self.faults.append(Fault(where, f"has no {media.target}: found {target!r}, expected {wanted}"))
        else:
            if media.target and media.target in media.more:  # who speaks may be the target: then it is known, too
                known[media.target] = found
            self.parts.setdefault(split, []).append(Item(content, found, id, where, known or NOTHING))

    def make_ids_unique(self) -> None:
        """Number the ids that occur again: a table may list a file twice, and results are joined by id."""
        seen: Counter[str] = Counter()
        for items in self.parts.values():
            for position, item in enumerate(items):
                seen[item.id] += 1
                if seen[item.id] > 1:
                    items[position] = replace(item, id=f"{item.id}#{seen[item.id]}")

    def notes(self) -> list[str]:
        """What a reader must know: files that were ignored, classes that a split names and does not hold."""
        notes, media = [], self.media
        if total := sum(self.ignored.values()):
            kinds = several(f"{kind} ({count})" for kind, count in sorted(self.ignored.items()) if count)
            notes.append(f"ignored {total} files that are no {media.nouns}: {kinds}")
        for split in ("valid", "test"):
            if empty := self.empty.get(split):
                notes.append(f"{split} has no {media.noun} of {several(empty)}")
        return notes


def settle(
    faults: Sequence[Fault], *, total: int, on_error: Literal["stop", "skip"], nouns: str, most: int = 10
) -> list[str]:
    """Stop at the faults, all at once, or skip them with a note.

    Args:
        total: examples in all, the faulty ones among them.
        nouns: what they are called.
        most: faults that are listed; the others are counted.

    Returns:
        The notes.

    Raises:
        DataError: there are faults and `on_error` is "stop".
    """
    if not faults:
        return []
    listed = [str(fault) for fault in faults[:most]]
    if len(faults) > most:
        listed.append(f"and {len(faults) - most} more")
    if on_error == "skip":
        return [f"skipped {len(faults)} of {total} {nouns}: {', '.join(listed)}"]
    raise DataError(
        f"{len(faults)} of {total} {nouns} cannot be used:\n  " + "\n  ".join(listed),
        hint="mend or remove them, or skip them with data.on_error=skip",
        details={
            "total": len(faults),
            "of": total,
            "files": [{"where": str(fault.where), "reason": fault.reason} for fault in faults[:most]],
        },
    )


def name_of(value: Any) -> str | None:
    """A name from a cell: text as it is, whole numbers in decimal; None where there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():  # pandas writes 3 as 3.0 beside a null
        value = int(value)
    if isinstance(value, str):
        return value if value.strip() else None
    return str(value) if isinstance(value, int) else None


def name(value: Any) -> str:
    """`name_of`, for `Media.more`.

    Raises:
        ValueError: it is no name.
    """
    found = name_of(value)
    if found is None:
        raise ValueError("expected a name or a whole number")
    return found


def seconds(value: Any) -> float:
    """A time, for `Media.more`.

    Raises:
        ValueError: it is no number, negative or not finite.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValueError("expected seconds, or nothing")
    return found


def several(names: Iterable[object], *, most: int = 10) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f", and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(str, listed[:most])) + more
