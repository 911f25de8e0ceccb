"""Which inputs do the words, lines and files of a command line mean?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from plait.errors import DataError

_FILES = {"image", "audio", "video"}
"""Port types whose values are files, so that a directory means all of its files."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to predict for.

    Args:
        shown: what the answer calls it.
        value: what the predictor gets: a bare value, or a mapping from port names to values.
        error: why it cannot even be tried.
    """

    shown: Any
    value: Any = None
    error: str | None = None


def read_inputs(
    words: Sequence[str], file: str | None, accepts: Mapping[str, str], *, optional: Sequence[str] = ()
) -> Iterator[Input]:
    """Words first, then the file's lines, each where it stands. Lines are read as they are asked for.

    Args:
        words: values of the only port, directories of files, JSON objects where there are several ports, or "-".
        file: one whose lines are inputs; "-" is stdin.
        accepts: the predictor's input ports and their types.
        optional: those that may be left out.
    """
    from plait.predictor import bare_port

    bare = bare_port(accepts, optional) is not None
    for word in words:
        if word == "-":
            yield from _stdin(accepts, bare)
        else:
            yield from _word(word, accepts, bare)
    if file == "-":
        yield from _stdin(accepts, bare)
    elif file is not None:
        objects = file.endswith((".jsonl", ".ndjson"))
        read = _object if objects else partial(_line, accepts=accepts, bare=bare)
        with Path(file).open("rb") as lines:
            for number, line in _lines(lines, f"{file}:{{}}"):
                yield line if line.error else read(line.shown, number)


def check_file(file: str) -> None:
    """Say early that an input file is not there.

    Raises:
        DataError: it is missing, or no file; near names are in the hint.
    """
    from plait.data import no_such_path

    path = Path(file)
    if not path.exists():
        raise no_such_path(path)
    if not path.is_file():
        raise DataError(f"{path}: not a file", hint="name a .jsonl file, or a file with one input a line")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _word(word: str, accepts: Mapping[str, str], bare: bool) -> Iterator[Input]:
    if len(accepts) == 1 and next(iter(accepts.values())) in _FILES and Path(word).is_dir():
        files = sorted(path for path in Path(word).rglob("*") if path.is_file() and not _hidden(path, Path(word)))
        if not files:
            yield Input(word, error="the directory holds no files")
        yield from (Input(str(path), str(path)) for path in files)
    else:
        yield _value(word, accepts, bare)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _stdin(accepts: Mapping[str, str], bare: bool) -> Iterator[Input]:
    for number, line in _lines(sys.stdin.buffer, "stdin:{}"):
        yield line if line.error else _line(line.shown, number, accepts, bare)


def _line(text: str, where: str, accepts: Mapping[str, str], bare: bool) -> Input:
    """An object of port names where it reads as one, else a bare value; no file is called like a JSON object."""
    found = _object(text, where)
    files = set(accepts.values()) <= _FILES
    return found if found.error is None and (files or set(found.value) <= set(accepts)) else _value(text, accepts, bare)


def _lines(file: Iterable[bytes], place: str) -> Iterator[tuple[str, Input]]:
    """Where each line is, and its text; blank ones are left out."""
    for number, raw in enumerate(file, start=1):
        where = place.format(number)
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield where, Input(where, error=f"{where}: not UTF-8 text ({error.reason})")
            continue
        if text.strip():
            yield where, Input(text)


def _object(text: str, where: str) -> Input:
    try:
        value = json.loads(text)
    except ValueError as error:
        return Input(text, error=f"{where}: not a JSON object of port names ({error})")
    if not isinstance(value, dict):
        return Input(value, error=f"{where}: expected a JSON object of port names, not {text[:40]}")
    return Input(value, value)


def _value(text: str, accepts: Mapping[str, str], bare: bool) -> Input:
    if len(accepts) == 1:
        return Input(text, text)
    found = _object(text, "INPUT")
    ports = ", ".join(accepts)
    if found.error is not None and bare and not text.lstrip().startswith("{"):
        return Input(text, text)
    return found if found.error is None else Input(text, error=f"expected a JSON object with the ports {ports}")
