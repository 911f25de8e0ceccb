"""Which sentences of words and tags does a CoNLL file hold, and on which line is each?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from plait.textlines import text_lines
from plait_nlp.reading import FileRow

SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".bioes", ".txt", ".tsv")
"""Files that are read as CoNLL; a table of strings could not hold lists of words."""
_DOCUMENT = "-DOCSTART-"
_SHOWN = 60  # characters of a line in a message


def conll_reader(word_column: int, tag_column: int) -> Callable[[Path, str], Iterator[FileRow]]:
    """A reader of CoNLL files, for `plait_nlp.reading.Layout`.

    A line has a word and its tag, perhaps columns between, separated by tabs or spaces; a blank line ends a sentence,
    -DOCSTART- a document. A line that begins with # and has other columns than the rest is a comment.

    Args:
        word_column, tag_column: their places, negative from the end.
    """

    def read(path: Path, encoding: str) -> Iterator[FileRow]:
        return _sentences(path, encoding, word_column, tag_column)

    return read


def _sentences(path: Path, encoding: str, word_column: int, tag_column: int) -> Iterator[FileRow]:
    columns, number, count = 0, 0, 0
    words: list[str] = []
    tags: list[str] = []
    lines: list[int] = []
    fault, broken = "", 0

    def ended() -> FileRow:
        where = f"{path}:{broken or lines[0]}"
        values = {"tokens": words, "tags": tags, "lines": lines}
        return FileRow(fault or values, f"{path.name}#{count}", where)

    for number, text in enumerate(text_lines(path, encoding), start=1):
        line = text.rstrip("\r\n")
        cells = line.split("\t") if "\t" in line else re.split(" +", line.strip())
        if not line.strip() or cells[0] == _DOCUMENT:
            if lines:
                yield ended()
                words, tags, lines, fault, broken, count = [], [], [], "", 0, count + 1
            continue
        if line.startswith("#") and len(cells) != (columns or 2):
            continue
        columns = columns or len(cells)
        lines.append(number)
        needed = max(word_column + 1, -word_column, tag_column + 1, -tag_column, 2)
        if len(cells) != columns or len(cells) < needed:
            expected = f"{columns} (as in the lines before)" if len(cells) != columns else f"{needed} (word, tag)"
            plural = "" if len(cells) == 1 else "s"
            if not fault:
                said = f"has {len(cells)} column{plural}, where {expected} are expected"
                fault, broken = f"{said}: {line[:_SHOWN]!r}", number
            continue
        word, tag = cells[word_column].strip(), cells[tag_column].strip()
        if not fault and not (word and tag):
            fault, broken = f"has no {'word' if not word else 'tag'}: {line[:_SHOWN]!r}", number
        words.append(word)
        tags.append(tag)
    if lines:
        yield ended()
