"""Where does a command's answer go, and how is stdout kept fit for the program that reads it?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self


class Output:
    """The answer of one command: text for a person, or JSON for a program. It knows no verb.

    With `machine`, file descriptor 1 is stderr for the whole command, and only the answer goes to the real stdout: what
    a plugin or a C library prints cannot spoil it.

    Args:
        machine: a program reads stdout.
    """

    def __init__(self, *, machine: bool) -> None:
        self.machine = machine
        self._real: int | None = None

    def __enter__(self) -> Self:
        if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name need not be valid text
        if self.machine:
            _flush_stdout()
            self._real = os.dup(1)
            try:
                os.dup2(2, 1)
            except OSError:  # stderr is closed
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, 1)
                os.close(devnull)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._real is not None:
            _flush_stdout()
            os.dup2(self._real, 1)
            os.close(self._real)
            self._real = None

    def document(self, value: Any) -> None:
        """Write one JSON document, on a line of its own; NaN and infinity become null."""
        self.text(encoded(value))

    def text(self, line: str = "") -> None:
        """Write a line of the answer.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        if self._real is None:
            print(line)
            return
        try:
            left = memoryview(f"{line}\n".encode())
        except UnicodeEncodeError:  # half surrogates: bytes of a file name that are no text
            left = memoryview(f"{line}\n".encode(errors="backslashreplace"))
        while left:
            left = left[os.write(self._real, left) :]

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows under their columns: drawn on a terminal, else aligned with blanks, which `awk` and `cut` read."""
        cells = [[" ".join(str(cell).split()) for cell in row] for row in rows]
        if not self.machine and sys.stdout.isatty():
            _draw(columns, cells)
            return
        for line in aligned([[name.upper() for name in columns], *cells]):
            self.text(line)

    def error(self, body: Mapping[str, Any]) -> None:
        """Say what went wrong: as the JSON document on stdout where a program reads it, else as text on stderr."""
        if self.machine:
            self.document(body)
            return
        told = body["error"]
        lines = [f"error: {told['message']}", *([f"  hint: {told['hint']}"] if told.get("hint") else [])]
        print("\n".join(lines), file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Let what is written reach its reader now, while its absence can still be noticed."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def abandon(self) -> None:
        """Nobody reads stdout: what is still buffered goes nowhere, so that Python's exit does not complain of it."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1 if self._real is None else self._real)
        os.close(devnull)


def encoded(value: Any) -> str:
    """One line of JSON. NaN and infinity, which JSON does not have, become null."""
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
    except ValueError:
        loose = json.loads(json.dumps(value, default=_plain), parse_constant=lambda _: None)
        text = json.dumps(loose, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        text = json.dumps(json.loads(text))  # half surrogates have no UTF-8; JSON can escape them
    return text


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _plain(value: Any) -> Any:
    """What a plugin returned, as JSON: numpy's and torch's numbers and arrays, mappings, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _draw(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _flush_stdout() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
