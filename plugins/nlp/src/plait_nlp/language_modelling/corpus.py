"""How is a text that may be larger than memory held, cut into pieces and divided by position?"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from plait.data import digest

_BLOCK = 1 << 24  # bytes that are looked at together
_WORD = re.compile(rb"[^\x00-\x20\x7f]")
_NO_TEXT = np.array([*(set(range(32)) - {9, 10, 12, 13}), 127])  # control characters that no text editor writes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document, with what stands before it.

    Args:
        text: the characters that are to be predicted; some.
        context: the characters before them in the document, which a model may read; "" where there are none.
        first, last: whether the document begins, or ends, with this piece.
        id: where it came from: "input.txt@1024", bytes from the beginning.
    """

    text: str
    context: str = ""
    first: bool = True
    last: bool = True
    id: str = ""

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(self.text.encode("utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents, one after another, as UTF-8. It knows no tokens.

    A file of UTF-8 is mapped: the system reads what is looked at and may forget it. Everything else is in memory, one
    byte an ASCII character.

    Args:
        content: the bytes, or the file that holds them.
        bounds: [documents + 1] where each document begins and the last one ends, bytes.
        names: of the documents, or one for all: then ids count bytes in it.
    """

    content: bytes | Path
    bounds: npt.NDArray[np.int64]
    names: Sequence[str]

    @property
    def buffer(self) -> bytes | mmap.mmap:
        """The bytes."""
        if isinstance(self.content, bytes):
            return self.content
        with self.content.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def documents(self) -> int:
        return len(self.bounds) - 1

    def has_words(self) -> bool:
        """Whether there is anything but white space and control characters."""
        begin, end = int(self.bounds[0]), int(self.bounds[-1])
        return _WORD.search(self.buffer, begin, end) is not None

    def divided(self, fractions: Sequence[float]) -> list[Corpus]:
        """The text up to each fraction of its bytes, from the one before; the rest is last.

        One document is cut where the fraction says, at a character; several are kept whole, each going where it begins.
        """
        begin, end = int(self.bounds[0]), int(self.bounds[-1])
        cuts = [begin]
        buffer = self.buffer
        for fraction in (*fractions, 1.0):
            wanted = begin + int((end - begin) * fraction + 1e-9)
            if fraction < 1.0 and self.documents > 1:
                wanted = int(self.bounds[np.searchsorted(self.bounds, wanted, side="left")])
            cuts.append(max(cuts[-1], _character(buffer, wanted, end)))
        return [self._part(one, other) for one, other in pairwise(cuts)]

    def _part(self, begin: int, end: int) -> Corpus:
        inside = self.bounds[(self.bounds > begin) & (self.bounds < end)]
        bounds = np.array([begin, *inside.tolist(), end] if end > begin else [begin], np.int64)
        first = int(np.searchsorted(self.bounds, begin, side="right")) - 1
        names = self.names if len(self.names) == 1 else self.names[first : first + len(bounds) - 1]
        return Corpus(content=self.content, bounds=bounds, names=names)

    def controls(self) -> tuple[int, int]:
        """How many control characters there are that no text has, and the line of the first (0: none)."""
        total, line, lines, buffer = 0, 0, 0, self.buffer
        begin, end = int(self.bounds[0]), int(self.bounds[-1])
        for start in range(begin, end, _BLOCK):
            block = np.frombuffer(buffer[start : min(start + _BLOCK, end)], np.uint8)
            count = int(np.bincount(block, minlength=256)[_NO_TEXT].sum())
            if count and not line:
                first = int(np.flatnonzero(np.isin(block, _NO_TEXT))[0])
                line = 1 + lines + int((block[:first] == 10).sum())
            total, lines = total + count, lines + int((block == 10).sum())
        return total, line


class Pieces(Sequence[Piece]):
    """A corpus cut into pieces of about one size, at white space where there is some: the examples of a split.

    A tokenizer that joins white space to the word behind it (as GPT-2's) makes of the pieces what it makes of the
    whole. It holds two numbers a piece; a piece is made when it is asked for.

    Args:
        corpus: what is cut.
        size: bytes of a piece at most.
        context: bytes before a piece that it shows at most.
    """

    in_memory = True  # mapped, or in memory: loader processes would only copy

    def __init__(self, corpus: Corpus, *, size: int, context: int) -> None:
        self.corpus, self._size, self._context = corpus, size, context
        starts, owners, buffer = [], [], corpus.buffer
        for number in range(corpus.documents):
            begin, end = int(corpus.bounds[number]), int(corpus.bounds[number + 1])
            found = list(_cuts(buffer, begin, end, size))
            starts += found
            owners += [number] * len(found)
        self._starts = np.array([*starts, int(corpus.bounds[-1])], np.int64)
        self._owners = np.array(owners, np.int64)

    @cached_property
    def _buffer(self) -> bytes | mmap.mmap:
        return self.corpus.buffer

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_buffer"}  # a map is no value

    def __len__(self) -> int:
        return len(self._owners)

    @overload
    def __getitem__(self, index: int) -> Piece: ...
    @overload
    def __getitem__(self, index: slice) -> list[Piece]: ...
    def __getitem__(self, index: int | slice) -> Piece | list[Piece]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        begin, end, owner = int(self._starts[at]), int(self._starts[at + 1]), int(self._owners[at])
        opened, closed = int(self.corpus.bounds[owner]), int(self.corpus.bounds[owner + 1])
        before = _character(self._buffer, max(opened, begin - self._context), begin)
        return Piece(
            self._buffer[begin:end].decode("utf-8"), self._buffer[before:begin].decode("utf-8"), begin == opened,
            end == closed, self.id(at),
        )  # fmt: skip

    def first(self, most: int) -> Pieces:
        """The first pieces; a document that is cut off ends there."""
        if most >= len(self):
            return self
        end = int(self._starts[most])
        return Pieces(self.corpus._part(int(self.corpus.bounds[0]), end), size=self._size, context=self._context)

    def id(self, index: int) -> str:
        """The `id` of a piece, without making it."""
        begin, owner, names = int(self._starts[index]), int(self._owners[index]), self.corpus.names
        if len(names) == 1:
            return f"{names[0]}@{begin}"
        opened = int(self.corpus.bounds[owner])
        return names[owner] if begin == opened else f"{names[owner]}@{begin - opened}"

    @property
    def ids(self) -> list[str]:
        return [self.id(index) for index in range(len(self))]

    @property
    def bytes(self) -> int:
        """Of all pieces together."""
        return int(self._starts[-1] - self._starts[0])

    def fingerprint(self) -> list[str]:
        """What stands for the content: its documents and its bytes, in blocks."""
        begin, end = int(self._starts[0]), int(self._starts[-1])
        blocks = (self._buffer[start : min(start + _BLOCK, end)] for start in range(begin, end, _BLOCK))
        return [digest((self.corpus.bounds - begin).tobytes()), *map(digest, blocks)]

    def document_digests(self) -> Iterator[tuple[str, str]]:
        """The name of each document, and a hash of its text."""
        for number in range(self.corpus.documents):
            begin, end = int(self.corpus.bounds[number]), int(self.corpus.bounds[number + 1])
            yield self.corpus.names[number % len(self.corpus.names)], digest(self._buffer[begin:end])


def _character(buffer: bytes | mmap.mmap, position: int, end: int) -> int:
    """The next position from which a character begins."""
    while position < end and buffer[position] & 0xC0 == 0x80:
        position += 1
    return position


def _cuts(buffer: bytes | mmap.mmap, begin: int, end: int, size: int) -> Iterator[int]:
    """Where pieces begin: before white space in the second half of what a piece may hold, else where it is full."""
    while begin < end:
        yield begin
        limit = begin + size
        if limit >= end:
            return
        found = max(buffer.rfind(space, begin + size // 2, limit + 1) for space in (b" ", b"\n"))
        while found < begin and buffer[limit] & 0xC0 == 0x80:
            limit -= 1
        begin = found if found > begin else limit
