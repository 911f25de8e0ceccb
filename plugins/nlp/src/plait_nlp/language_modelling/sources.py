"""Which text does a source hold: a long file, documents in a table, or Python's strings?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from plait.data import named_parts, named_splits
from plait.errors import DataError
from plait.listing import settle
from plait.options import DataOptions
from plait.textlines import text_lines
from plait_nlp.architectures.tokenizers import whole_text
from plait_nlp.encodings import detect_encoding, known_encoding
from plait_nlp.language_modelling.corpus import Corpus
from plait_nlp.reading import SUFFIXES, Layout, list_texts, text_media

SUPPORTED = (
    "a .txt file (one long text), a CSV, TSV, JSONL or Parquet file with the column text (a document a row;"
    " data.fields renames it), a folder with train, valid and test of them, a datasets directory, or a sequence"
)
_MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors write
_PLAIN = (".txt", ".text")


class LanguageOptions(DataOptions):
    """The recipe's `data` block for language models. `limit` keeps the first pieces of each split."""

    encoding: str = "auto"
    """Of text files: auto (byte order mark, else UTF-8, else Latin-1 with a note), or a name such as utf-16."""
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The names of the columns of CSV and TSV files whose first line is no header: ["text"]."""
    split: Literal["auto", "given", "position"] = "auto"
    """auto: splits that the data name, else by position; given: only these; position: first train, then valid, then
    test, whatever the data name. One text is cut there; several documents are kept whole."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part of the text, before the test part, that becomes `valid`; the end of train where the data name splits
    without it; 0: no valid."""
    test_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The last part of the text, where the data name no splits; 0: no test."""
    piece: int = Field(default=1024, ge=16, le=1 << 20)
    """Bytes of one example at most: pieces are judged one by one, and resampled for confidence intervals."""
    context: int = Field(default=1024, ge=0, le=1 << 20)
    """Bytes before a piece that a model may read when it is judged; 0: it begins anew with each piece."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        return encoding if encoding == "auto" else known_encoding(encoding)


@dataclass(slots=True)
class Texts:
    """What a source holds.

    Args:
        parts: text by split; under "" where the source names none.
        notes: what a reader must know.
    """

    parts: dict[str, Corpus] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_texts(source: Any, options: LanguageOptions) -> Texts:
    """The text of a source, by split.

    Raises:
        DataError: no such file, an unknown format, a missing column, bytes that are no text, or no text at all; with
            file and line.
    """
    found, parts = Texts(), {"": source}
    if isinstance(source, Mapping):
        parts = named_parts(source)
    elif isinstance(source, str | Path) and Path(source).is_dir():
        named = named_splits(Path(source), suffixes=SUFFIXES)
        if named and not any(each.is_dir() for each in named.values()):
            parts = dict(named)
    for split, part in parts.items():
        path = Path(part) if isinstance(part, str | Path) else None
        if path is not None and path.suffix.lower() in _PLAIN and path.is_file():
            found.parts[split] = _file(path, options, found.notes)
        else:
            _rows(split, part, options, found)
    for split, corpus in list(found.parts.items()):
        if not corpus.has_words():
            where = corpus.names[0] if len(corpus.names) == 1 else split or "the data"
            raise DataError(f"{where}: there is no text in it", hint=f"expected {SUPPORTED}")
        count, line = corpus.controls()
        if count:
            at = f"{corpus.names[0]}, line {line}" if len(corpus.names) == 1 else f"{split or 'the data'}, line {line}"
            found.notes.append(f"{count} control characters are part of the text (first in {at})")
    return found


def _file(path: Path, options: LanguageOptions, notes: list[str]) -> Corpus:
    """A text file: mapped where it is UTF-8, else decoded whole."""
    encoding = options.encoding
    if encoding == "auto":
        detected = detect_encoding(path)
        encoding = detected.name
        notes += [detected.note] if detected.note else []
    size = path.stat().st_size
    if encoding == "utf-8" and size:
        if options.encoding != "auto":
            deque(text_lines(path), maxlen=0)  # names the line that is not
        with path.open("rb") as file:
            begin = len(_MARK) if file.read(len(_MARK)) == _MARK else 0
        return Corpus(content=path, bounds=np.array([begin, size], np.int64), names=[path.name])
    try:
        content = path.read_text(encoding=encoding).encode("utf-8")
    except UnicodeError as error:
        raise DataError(f"{path}: not {encoding}: {error}", hint="state the encoding that the file has") from error
    return Corpus(content=content, bounds=np.array([0, len(content)], np.int64), names=[path.name])


def _rows(split: str, part: Any, options: LanguageOptions, found: Texts) -> None:
    """Documents of tables and sequences, in memory."""
    layout = Layout(media=text_media("text", supported=SUPPORTED), required=("text",))
    listed = list_texts({split: part} if split else part, layout=layout, options=options)
    listing = listed.listing
    total = len(listing) + len(listing.faults)
    found.notes += [*listed.notes, *listing.notes()]
    found.notes += settle(listing.faults, total=total, on_error=options.on_error, nouns="texts")
    if not len(listing):
        raise DataError(f"{split or 'the data'}: there is no text", hint=f"expected {SUPPORTED}")
    for name, items in listing.parts.items():
        texts = [_text(item.content["text"]).encode("utf-8") for item in items]
        bounds = np.concatenate([[0], np.cumsum([len(each) for each in texts])]).astype(np.int64)
        found.parts[name] = Corpus(content=b"".join(texts), bounds=bounds, names=[item.id for item in items])


def _text(value: str | list[str]) -> str:
    """A document; a list of its sentences is joined."""
    return whole_text(value if isinstance(value, str) else " ".join(map(str, value)))
