"""Which lines and records does a text file hold, and on which line is it wrong?"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from plait.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 1 << 20  # bytes


def count_quotes(path: Path) -> int:
    """How many double quotes a file has: an odd number means that one may never be closed."""
    with path.open("rb") as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(_BLOCK), b""))


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file with their ends, as the csv module wants them; UTF-8's byte order mark is dropped.

    Raises:
        DataError: names the line that is not UTF-8, or not of the encoding.
    """
    if encoding != "utf-8":
        yield from _lines_of(path, encoding)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8",
                    hint="convert the file: iconv -f LATIN1 -t UTF-8 (or -f UTF-16)",
                ) from error


def _lines_of(path: Path, encoding: str) -> Iterator[str]:
    number = 0
    with path.open(encoding=encoding, newline="") as file:
        try:
            for number, line in enumerate(file, start=1):  # noqa: B007  # the handler says how far it came
                yield line
        except UnicodeError as error:
            raise DataError(
                f"{path}:{number + 1}: not {encoding}, here or soon after: {error}",
                hint="state the encoding that the file has",
            ) from error


def csv_records(path: Path, kind: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """The line where each record of a CSV or TSV file begins, and its cells; empty lines are no records.

    Raises:
        DataError: names the line that is not CSV.
    """
    reader = (
        csv.reader(text_lines(path, encoding), strict=True)
        if kind == "CSV"
        else csv.reader(text_lines(path, encoding), delimiter="\t", quoting=csv.QUOTE_NONE)
    )
    line = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = "unexpected end of data" in str(error)
            raise DataError(
                f"{path}:{line}: " + ("a quote is opened and never closed" if end else f"not CSV: {error}"),
                hint='inside a quoted cell a quote is written twice: "say ""hi"""; text with bare quotes can be TSV',
            ) from error
        if record:
            yield line, record
        line = reader.line_num + 1


def explain_csv(
    path: Path, kind: str, header: list[str], types: Mapping[str, pa.DataType], found: str, encoding: str = "utf-8"
) -> NoReturn:
    """Say on which line the file that pyarrow refused is wrong.

    Args:
        types: of the columns that are read.
        found: pyarrow's own words, for what is not found here.

    Raises:
        DataError: always.
    """
    import pyarrow as pa

    typed = [(header.index(column), column, type_) for column, type_ in types.items() if type_ != pa.string()]
    for line, record in csv_records(path, kind, encoding):
        if len(record) != len(header):
            raise DataError(
                f"{path}:{line}: {len(record)} cells where the header has {len(header)} columns",
                hint="quote cells that hold a comma" if kind == "CSV" else "remove tabs inside cells",
                details={"file": str(path), "line": line, "expected": len(header), "found": len(record)},
            )
        if record == header:
            continue
        for position, column, type_ in typed:
            try:
                pa.scalar(record[position], pa.string()).cast(type_)
            except pa.ArrowInvalid as error:
                raise DataError(f"{path}:{line}: {column!r} is {record[position]!r}; expected {type_}") from error
    raise DataError(f"{path}: {found}")
