"""What do files without Plait's own header say: RecBole's atomic files, MovieLens' u.data?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from plait.errors import DataError
from plait.textlines import csv_records, explain_csv

ATOMIC = (".inter", ".item", ".user")
"""RecBole's atomic files that are read: tab-separated, each column named name:type."""

_TYPES = {"token": pa.string(), "float": pa.float64(), "token_seq": pa.string(), "float_seq": pa.string()}
_KINDS = {"token": "categorical", "float": "numeric", "token_seq": "token_seq", "float_seq": "embedding"}
_MOVIELENS = ("user_id", "item_id", "rating", "timestamp")
_BLOCK = 16 << 20  # bytes


def read_atomic(path: Path) -> tuple[pa.Table, dict[str, str]]:
    """An atomic file's columns under their names without types, and the kind of each.

    Raises:
        DataError: no file; a header without types; ragged lines, or values that are not of the stated type.
    """
    try:
        line, header = next(csv_records(path, "TSV"), (0, []))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not line:
        raise DataError(f"{path} is empty: it has no header")
    kinds, types = {}, {}
    for column in header:
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise DataError(
                f"{path}:{line}: column {column!r} does not say what it is",
                hint=f"an atomic file's columns are named name:type; types are {', '.join(_TYPES)}",
            )
        if name in kinds:
            raise DataError(f"{path}:{line}: two columns are named {name!r}", hint="rename one")
        kinds[name], types[column] = _KINDS[kind], _TYPES[kind]
    table = _read(path, header, types).rename_columns(list(kinds))
    if not len(table):
        raise DataError(f"{path} has no rows")
    for name, kind in kinds.items():
        if kind == "embedding":
            position = table.column_names.index(name)
            table = table.set_column(position, name, _vectors(path, name, table.column(name)))
    return table, kinds


def read_movielens(path: Path) -> pa.Table:
    """MovieLens' u.data: user, item, rating and timestamp (seconds), tab-separated, without a header."""
    types = {"user_id": pa.string(), "item_id": pa.string(), "rating": pa.float64(), "timestamp": pa.int64()}
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(block_size=_BLOCK, column_names=list(_MOVIELENS)),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=types),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not MovieLens' u.data (user, item, rating, timestamp by tabs): {error}") from error


def _read(path: Path, header: list[str], types: dict[str, pa.DataType]) -> pa.Table:
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(block_size=_BLOCK),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                include_columns=header, column_types=types, null_values=[""], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        explain_csv(path, "TSV", header, types, str(error))


def _vectors(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    import pyarrow.compute as pc

    words: Any = pc.ascii_split_whitespace(column.combine_chunks())
    try:
        return words.cast(pa.list_(pa.float32()))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: {name!r} holds what is no list of numbers: {error}") from error
