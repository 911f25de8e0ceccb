"""In which encoding is a text file, and where does it break the one that it seems to be in?"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from plait.errors import DataError, did_you_mean

_BLOCK = 1 << 20  # bytes
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which begins it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes become text.

    Args:
        name: as Python calls it; "utf-8" also where a byte order mark comes first.
        note: what a reader must know, where the file did not say it clearly.
    """

    name: str
    note: str | None = None


def known_encoding(name: str) -> str:
    """Python's name of an encoding.

    Raises:
        ValueError: there is none.
    """
    try:
        found = codecs.lookup(name).name
    except LookupError:
        common = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1251", "shift_jis", "gb18030", "euc_kr", "big5")
        raise ValueError(
            did_you_mean(name, common) or f"no such encoding; common ones are {', '.join(common)}"
        ) from None
    return "utf-8" if found == "utf-8-sig" else found


def detect_encoding(path: Path) -> Encoding:
    """The encoding of a file: by its byte order mark, else UTF-8 where it is, else Latin-1 (cp1252 where its quotes and
    dashes occur), which any bytes are; the latter with a note.

    A file with more lines of good UTF-8 beyond ASCII than of bad is broken UTF-8, not Latin-1.

    Raises:
        DataError: names the first line of a file that is broken UTF-8.
    """
    with path.open("rb") as file:
        head = file.read(4)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return Encoding(name)
        file.seek(0)
        if _is_utf8(file):
            return Encoding("utf-8")
        file.seek(0)
        good, bad, first, column, controls = 0, 0, 0, 0, False
        for number, line in enumerate(file, start=1):
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError as error:
                bad += 1
                controls = controls or any(0x80 <= byte < 0xA0 for byte in line)
                if not first:
                    first, column = number, error.start
    if good >= bad:
        raise DataError(
            f"{path}:{first}: byte {column + 1} of the line is not UTF-8, and {good} other lines are",
            hint="mend the line, or state the encoding: data.encoding=latin-1 takes any bytes",
            details={"file": str(path), "line": first, "bad": bad, "good": good},
        )
    name = "cp1252" if controls and _decodes(path, "cp1252") else "latin-1"
    note = f"{path} is not UTF-8 (first in line {first}); it was read as {name}. data.encoding states another"
    return Encoding(name, note)


def _is_utf8(file: object) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while block := file.read(_BLOCK):  # type: ignore[attr-defined]  # an open binary file
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decodes(path: Path, name: str) -> bool:
    try:
        with path.open(encoding=name, newline="") as file:
            while file.read(_BLOCK):
                pass
    except UnicodeDecodeError:
        return False
    return True
