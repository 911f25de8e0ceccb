"""Which columns does a source of interactions hold, whatever its format?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from plait.data import TABLE_SUFFIXES, entries, named_parts, named_splits, no_such_path, split_name
from plait.errors import DataError, did_you_mean
from plait.tables import column_names, read_table
from plait_recommendation.atomic import ATOMIC, read_atomic, read_movielens

ALIASES: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id", "userId", "uid", "userid"),
    "item": ("item_id", "itemId", "movieId", "iid", "itemid"),
    "rating": ("score", "stars"),
    "timestamp": ("time", "ts", "unixtime"),
}
"""What a field's column may be called where it is not called as the field, and `data.fields` does not say."""

REQUIRED = ("user", "item")
OPTIONAL = ("rating", "timestamp")
SUPPORTED = (
    "a .csv, .tsv, .jsonl, .parquet or RecBole .inter file with the columns user and item (rating, timestamp), "
    "MovieLens' u.data, a folder with one of them or with train, valid and test, a table or sequence of tuples"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Columns of interactions as they were found, perhaps with tables of items and users. It knows no codes.

    Args:
        interactions: columns user, item, perhaps rating and timestamp, and further ones.
        items, users: tables with a column item (user) and features; None where there is none.
        kinds: the kinds of feature columns that the format states.
        where: the place of a row (from 0), for messages.
        name: what to call the source.
    """

    interactions: pa.Table
    items: pa.Table | None = None
    users: pa.Table | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    where: Callable[[int], str] = "row {}".format
    name: str = "in memory"


def open_source(source: Any, *, fields: Mapping[str, str], columns: Sequence[str] | None = ()) -> dict[str, Source]:
    """The parts of a source by split; one part "" where it names no splits.

    Args:
        source: see `SUPPORTED`; also a `Source`, a pyarrow table, a pandas frame, a mapping from columns to arrays, or
            from splits to any of these.
        fields: the column of a field where its name is another (`data.fields`).
        columns: further columns to keep; None: all.

    Raises:
        DataError: names the file, the line, the column and what was expected.
    """
    if isinstance(source, Source):
        return {"": source}
    if isinstance(source, str | Path):
        return _open_path(Path(source), fields, columns)
    if isinstance(source, Mapping) and source and all(isinstance(key, str) and split_name(key) for key in source):
        parts = {}
        for name, part in named_parts(source).items():
            opened = open_source(part, fields=fields, columns=columns)
            if set(opened) != {""}:
                raise DataError(f"data: the part {name!r} has splits of its own: {', '.join(opened)}")
            parts[name] = opened[""]
        return parts
    return {"": _from_memory(source, fields, columns)}


def read_features(path: Path, key: str) -> tuple[pa.Table, dict[str, str]]:
    """A table of items or users from a file: all its columns, the id's called `key`; and the kinds that it states."""
    if path.suffix.lower() in ATOMIC:
        table, kinds = read_atomic(path)
        name = _column(key, table.column_names, {}, str(path))
        return table.rename_columns([key if each == name else each for each in table.column_names]), kinds
    header = column_names(path)
    name = _column(key, header, {}, str(path))
    others = [each for each in header if each != name]
    if key in others:
        raise DataError(f"{path}: both {name!r} and {key!r} are columns", hint="rename one")
    return read_table(path, required=[key], optional=others, fields={key: name}).data, {}


def _open_path(path: Path, fields: Mapping[str, str], columns: Sequence[str] | None) -> dict[str, Source]:
    if path.is_dir():
        return _open_folder(path, fields, columns)
    if not path.exists():
        raise no_such_path(path)
    return {"": _open_file(path, fields, columns)}


def _open_folder(folder: Path, fields: Mapping[str, str], columns: Sequence[str] | None) -> dict[str, Source]:
    parts = named_splits(folder, suffixes=(*TABLE_SUFFIXES, ".inter"))
    if parts:
        return {name: _open_file(path, fields, columns) for name, path in parts.items()}
    files = [each for each in entries(folder) if each.is_file()]
    chosen = [each for each in files if each.suffix == ".inter" or each.name == "u.data"]
    chosen = chosen or [each for each in files if each.suffix.lower() in TABLE_SUFFIXES]
    if len(chosen) != 1:
        said = f"{len(chosen)} files that may be the interactions" if chosen else "no file of interactions"
        raise DataError(f"{folder}: {said}", hint=f"name one; supported: {SUPPORTED}")
    found = _open_file(chosen[0], fields, columns)
    kinds = dict(found.kinds)
    tables: dict[str, pa.Table] = {}
    for key in ("item", "user"):
        beside = chosen[0].with_suffix(f".{key}")
        if chosen[0].suffix == ".inter" and beside.is_file():
            tables[f"{key}s"], stated = read_features(beside, key)
            kinds |= stated
    return {"": replace(found, **tables, kinds=kinds)}


def _open_file(path: Path, fields: Mapping[str, str], columns: Sequence[str] | None) -> Source:
    def where(row: int) -> str:
        return f"{path}:{row + 2 - headless}"  # tabs know no quotes, so that each row is one line

    headless = path.name == "u.data"
    if headless or path.suffix.lower() == ".inter":
        table, kinds = (read_movielens(path), {}) if headless else read_atomic(path)
        return Source(interactions=_chosen(table, fields, columns, str(path)), kinds=kinds, where=where, name=str(path))
    header = column_names(path)
    named = _fields(header, fields, str(path))
    # reads each id once and keeps four bytes for each repeat: 1e8 rows of text would take 2 GB
    types = {key: pa.dictionary(pa.int32(), pa.string()) for key in REQUIRED} | {"rating": pa.float64()}
    others = [each for each in header if each not in named.values()] if columns is None else list(columns)
    read = read_table(
        path, required=[*REQUIRED, *([] if columns is None else others)],
        optional=[*OPTIONAL, *(others if columns is None else [])], fields=named, allow_null=True,
        types=types if path.suffix.lower() in (".csv", ".tsv") else {},
    )  # fmt: skip
    return Source(interactions=read.data, where=read.where, name=str(path))


def _from_memory(source: Any, fields: Mapping[str, str], columns: Sequence[str] | None) -> Source:
    if isinstance(source, pa.Table):
        table = source
    elif hasattr(source, "columns") and hasattr(source, "to_numpy"):  # a pandas frame, without importing pandas
        table = pa.Table.from_pandas(source, preserve_index=False)
    elif isinstance(source, Mapping):
        table = _table(dict(source))
    elif isinstance(source, Sequence | np.ndarray) and not isinstance(source, str | bytes):
        table = _from_rows(source)
    else:
        raise DataError(f"data: {type(source).__name__} holds no interactions", hint=f"give {SUPPORTED}")
    return Source(interactions=_chosen(table, fields, columns, "data"))


def _from_rows(rows: Sequence[Any] | np.ndarray) -> pa.Table:
    if not len(rows):
        raise DataError("data: no interactions: the sequence is empty")
    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or not 2 <= rows.shape[1] <= 4:
            raise DataError(f"data: an array of interactions is [n, 2 to 4], not {list(rows.shape)}")
        return _table(dict(zip((*REQUIRED, *OPTIONAL), rows.T, strict=False)))
    if isinstance(rows[0], Mapping):
        return _table({key: [row.get(key) for row in rows] for key in rows[0]})
    widths = {len(row) if isinstance(row, Sequence) and not isinstance(row, str) else 0 for row in rows}
    if len(widths) != 1 or not widths <= {2, 3, 4}:
        raise DataError(
            f"data: interactions of {', '.join(map(str, sorted(widths)))} values",
            hint="each is (user, item), (user, item, rating) or (user, item, rating, timestamp)",
        )
    return _table(dict(zip((*REQUIRED, *OPTIONAL), map(list, zip(*rows, strict=True)), strict=False)))


def _table(columns: Mapping[str, Any]) -> pa.Table:
    made = {}
    for name, values in columns.items():
        try:
            made[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            kinds = sorted({type(each).__name__ for each in values})
            raise DataError(
                f"data: {name!r} has values of several types ({', '.join(kinds)}): {error}",
                hint="write ids of one kind: all text or all integers",
            ) from error
    lengths = {name: len(values) for name, values in made.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"data: columns have different lengths: {lengths}")
    return pa.table(made)


def _chosen(table: pa.Table, fields: Mapping[str, str], columns: Sequence[str] | None, where: str) -> pa.Table:
    """The columns that are wanted, under the fields' names."""
    named = _fields(table.column_names, fields, where)
    others = [each for each in table.column_names if each not in named.values()] if columns is None else list(columns)
    for name in others:
        _require(name, table.column_names, where, name)
    found = {key: table.column(column) for key, column in named.items()}
    return pa.table({**found, **{name: table.column(name) for name in others}})


def _fields(header: Sequence[str], fields: Mapping[str, str], where: str) -> dict[str, str]:
    """The column of each field that the source has."""
    for name in fields:
        if name not in (*REQUIRED, *OPTIONAL):
            hint = did_you_mean(name, (*REQUIRED, *OPTIONAL)) or "fields: user, item, rating, timestamp"
            raise DataError(f"data.fields.{name}: there is no field {name!r}", hint=hint)
    named = {name: _column(name, header, fields, where) for name in REQUIRED}
    for name in OPTIONAL:
        if name in fields or name in header or any(each in header for each in ALIASES[name]):
            named[name] = _column(name, header, fields, where)
    return named


def _column(name: str, header: Sequence[str], fields: Mapping[str, str], where: str) -> str:
    if name in fields:
        return _require(fields[name], header, where, name)
    if name in header:
        return name
    found = [each for each in ALIASES.get(name, ()) if each in header]
    return found[0] if len(found) == 1 else _require(name, header, where, name)


def _require(column: str, header: Sequence[str], where: str, name: str) -> str:
    if column not in header:
        guess = did_you_mean(column, header)
        hint = f"name it: data.fields.{name}=COLUMN"
        raise DataError(
            f"{where}: no column {column!r}; the columns are {', '.join(map(repr, header)) or 'none'}",
            hint=f"{guess} {hint}" if guess else hint,
            details={"file": where, "field": name, "column": column, "columns": list(header)},
        )
    return column
