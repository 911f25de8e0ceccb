"""Which rows does a CSV, TSV, JSONL or Parquet file hold, and on which line is each?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.errors import DataError, did_you_mean
from plait.textlines import count_quotes, csv_records, explain_csv, text_lines

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_SUFFIXES: Mapping[str, str] = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".parquet": "Parquet",
}
"""The formats that `read_table` reads, by the lower-case end of the file's name."""

_CHUNK = 65_536  # JSONL rows that are Python objects at one time
_ONE_OBJECT = 'each line is one object: {"field": value, ...}'
_BLOCK = 16 << 20  # bytes; a CSV row longer than pyarrow's 1 MiB default (a document, an encoded image) still fits


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file that a task asked for, under the task's own names. It knows no task and no split.

    Args:
        path: the file.
        data: one column a field; fields that are optional and absent have none.
        lines: where each row begins, counted from 1, where reading has found that out; `where` looks it up else.
        encoding: of its text.
        header: whether its first line names the columns.
    """

    path: Path
    data: pa.Table
    lines: np.ndarray | None = None
    encoding: str = "utf-8"
    header: bool = True

    def __len__(self) -> int:
        rows: int = self.data.num_rows
        return rows

    def __contains__(self, field: str) -> bool:
        return field in self.data.column_names

    def __getitem__(self, field: str) -> pa.ChunkedArray:
        return self.data.column(field)

    def where(self, row: int) -> str:
        """Where a row (from 0) is, for an error message: "labels.csv:17"."""
        return self.places([row])[row]

    def places(self, rows: Iterable[int]) -> dict[int, str]:
        """`where` of several rows, reading the file at most once."""
        wanted = sorted(set(rows))
        kind = TABLE_SUFFIXES[self.path.suffix.lower()]
        if kind == "Parquet":
            return {row: f"{self.path} (row {row + 1})" for row in wanted}
        if self.lines is not None:
            return {row: f"{self.path}:{self.lines[row]}" for row in wanted}
        found: dict[int, str] = {}
        for row, (line, _) in enumerate(csv_records(self.path, kind, self.encoding), start=-int(self.header)):
            if len(found) == len(wanted):
                break
            if row == wanted[len(found)]:
                found[row] = f"{self.path}:{line}"
        return found


def read_table(
    path: Path | str,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
    types: Mapping[str, pa.DataType] | None = None,
    allow_null: bool = False,
    encoding: str = "utf-8",
    columns: Sequence[str] | None = None,
) -> Table:
    """Read the columns that a task needs from a CSV, TSV, JSONL or Parquet file.

    Text stays text: "NA", "null" and "007" are not read as anything else. CSV and TSV cells are text unless `types`
    says otherwise; JSONL and Parquet values keep their types. TSV knows no quotes (as GLUE and IANA have it), CSV does.

    Args:
        required, optional: the fields that the task needs, and those it uses where they are there.
        fields: the column of a field where its name is another: {"image": "file_name"} (the option `data.fields`).
        types: what to read a field as: {"rating": pyarrow.float64()}.
        allow_null: leave null and NaN in required fields to the caller, who may have to skip such rows.
        encoding: of CSV, TSV and JSONL, by Python's name for it.
        columns: the names of a CSV or TSV file's columns, where its first line is a row already.

    Raises:
        DataError: names the file, the line and the field: a missing or duplicate column, a ragged or broken line, bytes
            that are not of the encoding, a null in a required field, values of several types, no rows at all.
    """
    path = Path(path)
    kind = _format(path)
    wanted = _columns(path, required, optional, fields or {})
    with _opened(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes)")
        needed, kinds = frozenset(required) | frozenset(fields or {}), dict(types or {})
        if kind == "Parquet":
            table = _read_parquet(path, wanted, needed, kinds)
        elif kind == "JSONL":
            table = _read_jsonl(path, wanted, needed, kinds, encoding)
        else:
            table = _read_csv(path, wanted, needed, kinds, encoding, columns)
    if not len(table):
        raise DataError(f"{path} has no rows")
    if not allow_null:
        for field in required:
            _check_null(table, field, wanted[field])
    return table


def column_names(path: Path | str) -> list[str]:
    """The columns of a table file, in order (of JSONL: the fields of its first line), for tasks that use them all.

    Raises:
        DataError: as `read_table`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    kind = _format(path)
    with _opened(path):
        try:
            if kind == "Parquet":
                return list(pq.read_schema(path).names)
        except pa.ArrowException as error:
            raise DataError(f"{path} is not a Parquet file, or is damaged: {error}") from error
        found = next(_json_rows(path), (0, {})) if kind == "JSONL" else next(csv_records(path, kind), (0, []))
    if not found[0]:
        raise DataError(f"{path} is empty: it has no columns")
    return list(found[1])


def _format(path: Path) -> str:
    kind = TABLE_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: {path.suffix or 'a file without a suffix'} is no table that can be read",
            hint=f"supported: {', '.join(TABLE_SUFFIXES)}",
        )
    return kind


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: permission denied", hint=f"chmod u+r {path}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _columns(path: Path, required: Sequence[str], optional: Sequence[str], fields: Mapping[str, str]) -> dict[str, str]:
    known = [*required, *optional]
    for field in fields:
        if field not in known:
            raise DataError(
                f"data.fields.{field}: there is no field {field!r} to read from {path}",
                hint=did_you_mean(field, known) or f"the fields are {', '.join(known)}",
            )
    return {field: fields.get(field, field) for field in known}


def _present(
    path: Path, wanted: Mapping[str, str], needed: frozenset[str], header: Sequence[str], line: int | None
) -> dict[str, str]:
    """The wanted columns that the file has.

    Raises:
        DataError: one that is needed is missing, or its name occurs twice.
    """
    place = f"{path}:{line}" if line else str(path)
    present: dict[str, str] = {}
    for field, column in wanted.items():
        if header.count(column) > 1:
            raise DataError(f"{place}: {header.count(column)} columns are named {column!r}", hint="rename all but one")
        if column in header:
            present[field] = column
        elif field in needed:
            called = f" (data.fields.{field})" if column != field else ""
            guess = did_you_mean(column, header)
            hint = f"name it: data.fields.{field}=COLUMN"
            raise DataError(
                f"{place}: no column {column!r}{called}; the columns are {', '.join(map(repr, header)) or 'none'}",
                hint=f"{guess} {hint}" if guess else hint,
                details={"file": str(path), "field": field, "column": column, "columns": list(header)},
            )
    return present


def _check_null(table: Table, field: str, column: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table[field]
    missing = pc.is_null(values, nan_is_null=pa.types.is_floating(values.type))
    if pc.any(missing).as_py():
        rows = np.flatnonzero(missing.to_numpy())
        raise DataError(
            f"{table.where(int(rows[0]))}: {column!r} has no value (null or NaN)"
            + (f"; {len(rows) - 1} more such rows" if len(rows) > 1 else ""),
            hint="give it a value or remove the row",
            details={"file": str(table.path), "field": field, "rows": len(rows)},
        )


# CSV and TSV


def _read_csv(
    path: Path, wanted: Mapping[str, str], needed: frozenset[str], types: dict[str, pa.DataType], encoding: str,
    columns: Sequence[str] | None,
) -> Table:  # fmt: skip
    import pyarrow as pa
    from pyarrow import csv as arrow

    kind = TABLE_SUFFIXES[path.suffix.lower()]
    line, header = next(csv_records(path, kind, encoding), (0, []))
    if not line:
        raise DataError(f"{path} is empty: it has no header")
    if columns is not None:
        if len(columns) != len(header):
            raise DataError(f"{path}:{line}: {len(header)} cells, {len(columns)} columns are named", hint="name all")
        header = list(columns)
    present = _present(path, wanted, needed, header, line)
    as_read = {column: types.get(field, pa.string()) for field, column in present.items()}
    delimiter, quote = ("\t", False) if kind == "TSV" else (",", '"')
    try:
        data = arrow.read_csv(
            path,
            read_options=arrow.ReadOptions(block_size=_BLOCK, column_names=columns, encoding=encoding),
            parse_options=arrow.ParseOptions(delimiter=delimiter, quote_char=quote, newlines_in_values=bool(quote)),
            convert_options=arrow.ConvertOptions(
                include_columns=list(as_read), column_types=as_read, null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        explain_csv(path, kind, header, as_read, str(error), encoding)
    if quote and count_quotes(path) % 2:  # pyarrow takes the whole rest of the file as one cell without a word
        for _ in csv_records(path, kind, encoding):
            pass
    return Table(path, data.rename_columns(list(present)), encoding=encoding, header=columns is None)


# JSONL


def _read_jsonl(
    path: Path, wanted: Mapping[str, str], needed: frozenset[str], types: dict[str, pa.DataType], encoding: str
) -> Table:
    import pyarrow as pa

    kinds: dict[str, tuple[str, int]] = {}
    chunks: dict[str, list[pa.Array]] = {field: [] for field in wanted}
    pending: dict[str, list[Any]] = {field: [] for field in wanted}
    lines: list[int] = []
    for line, row in _json_rows(path, encoding):
        if not lines:  # later rows that lack the field are nulls, with their line
            _present(path, wanted, needed, list(row), line)
        lines.append(line)
        for field, column in wanted.items():
            value = row.get(column)
            if value is not None:
                _check_kind(path, line, column, value, kinds)
            pending[field].append(value)
        if len(lines) % _CHUNK == 0:
            _flush(path, pending, chunks, types)
    _flush(path, pending, chunks, types)
    if not lines:
        raise DataError(f"{path} has no rows")
    columns = {}
    for field, column in wanted.items():
        if column in kinds or field in needed:
            parts = [pa.table({field: chunk}) for chunk in chunks[field]]
            columns[field] = pa.concat_tables(parts, promote_options="permissive").column(0)  # 1, 2, then 2.5
    return Table(path, pa.table(columns), np.asarray(lines, dtype=np.int64))


def _json_rows(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(text_lines(path, encoding), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text.rstrip())
        except (ValueError, RecursionError) as error:
            why = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(f"{path}:{line}: not JSON: {why}", hint=_ONE_OBJECT) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{line}: expected an object, found {_kind(row)}", hint=_ONE_OBJECT)
        yield line, row


def _check_kind(path: Path, line: int, column: str, value: Any, kinds: dict[str, tuple[str, int]]) -> None:
    kind = _kind(value)
    known, first = kinds.setdefault(column, (kind, line))
    if kind != known:
        raise DataError(
            f"{path}:{line}: {column!r} is {kind} ({str(value)[:40]!r}), but {known} on line {first}",
            hint=f"write every {column!r} as {known}",
            details={"file": str(path), "line": line, "field": column, "expected": known, "found": kind},
        )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    return names[type(value)]


def _flush(
    path: Path,
    pending: dict[str, list[Any]],
    chunks: dict[str, list[pa.Array]],
    types: Mapping[str, pa.DataType],
) -> None:
    import pyarrow as pa

    for field, values in pending.items():
        try:
            chunks[field].append(pa.array(values, types.get(field)))
        except (pa.ArrowException, OverflowError) as error:  # a list that holds text and numbers; 10**30
            raise DataError(f"{path}: {field!r} has values that fit no column type: {error}") from error
        values.clear()


# Parquet


def _read_parquet(
    path: Path, wanted: Mapping[str, str], needed: frozenset[str], types: dict[str, pa.DataType]
) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header = pq.read_schema(path).names
        present = _present(path, wanted, needed, header, None)
        data = pq.read_table(path, columns=list(present.values()), partitioning=None)
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a Parquet file, or is damaged: {error}") from error
    columns = {}
    for field, column in present.items():
        values = data.column(column)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if field in types:
            try:
                values = values.cast(types[field])
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError(f"{path}: {column!r} is {values.type}; expected {types[field]}: {error}") from error
        columns[field] = values
    return Table(path, pa.table(columns))
