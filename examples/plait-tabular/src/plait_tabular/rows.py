"""What is a row, and which rows does a source hold?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from plait.data import named_parts, named_splits, no_such_path
from plait.errors import DataError
from plait.tables import TABLE_SUFFIXES, column_names, read_table

Kind = Literal["number", "text"]


@dataclass(frozen=True, slots=True)
class Row:
    """One example.

    Args:
        values: a float or a text for each column.
        label: its class; None where it is to be predicted.
        id: the file and line, or the position, that it came from.
    """

    values: Mapping[str, float | str]
    label: str | None = None
    id: str = ""


class Record(NamedTuple):
    """A row as it was read: where it is ("wines.csv:17"), and its cells."""

    where: str
    cells: Mapping[str, Any]


def read_records(source: Any) -> dict[str, list[Record]]:
    """The records of each split that a source names; all under "train" where it names none.

    Args:
        source: a table file, a directory of table files named after splits, a sequence of mappings from columns to
            values, or a mapping from split names to any of these.

    Raises:
        DataError: it is none of these, or cannot be read.
    """
    if isinstance(source, Mapping):
        return {split: _records(part, split) for split, part in named_parts(source).items()}
    if isinstance(source, str | Path) and Path(source).is_dir():
        files = {split: path for split, path in named_splits(Path(source)).items() if path.is_file()}
        if "train" not in files:
            raise DataError(
                f"{source}: no table of training rows in this directory",
                hint=f"name it train.csv, or train with another suffix: {', '.join(TABLE_SUFFIXES)}",
            )
        return {split: _records(path, split) for split, path in files.items()}
    return {"train": _records(source, "row")}


def _records(source: Any, name: str) -> list[Record]:
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise no_such_path(path)
        table = read_table(path, required=column_names(path), allow_null=True)
        places = table.places(range(len(table)))
        return [Record(places[index], cells) for index, cells in enumerate(table.data.to_pylist())]
    if isinstance(source, Sequence):
        wrong = next((index for index, cells in enumerate(source) if not isinstance(cells, Mapping)), None)
        if wrong is None:
            return [Record(f"{name} {index + 1}", cells) for index, cells in enumerate(source)]
        found = type(source[wrong]).__name__
        raise DataError(f"{name} {wrong + 1} is of type {found}, expected a mapping from columns to values")
    raise DataError(
        f"data: {type(source).__name__} holds no rows",
        hint=f"give a table file ({', '.join(TABLE_SUFFIXES)}), a directory of them, or a list of dicts",
    )


def column_kinds(records: Sequence[Record], names: Sequence[str], *, text: Sequence[str]) -> dict[str, Kind]:
    """What each column holds: numbers where most of its values are numbers, unless it is named in `text`."""
    kinds: dict[str, Kind] = {}
    for name in names:
        numbers = sum(as_number(record.cells.get(name)) is not None for record in records)
        kinds[name] = "number" if name not in text and 2 * numbers > len(records) else "text"
    return kinds


def convert(cells: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, float | str]:
    """The values of the columns in `kinds`; others are left out.

    Raises:
        ValueError: says which column has no value, or one that is not a number.
    """
    values: dict[str, float | str] = {}
    for name, kind in kinds.items():
        value = cells.get(name)
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise ValueError(f"{name!r} has no value")
        if kind == "text":
            values[name] = str(value)
        elif (number := as_number(value)) is not None:
            values[name] = number
        else:
            raise ValueError(f"{name!r} is {value!r}, expected a number")
    return values


def as_number(value: Any) -> float | None:
    """The finite number that a value is, or reads as ("3.5"); else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
