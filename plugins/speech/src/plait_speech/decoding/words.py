"""Which words may be written?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from plait.data import no_such_path
from plait.errors import DataError
from plait.textlines import text_lines


class WordList:
    """Some words, and what they begin with. It knows no probabilities."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(sorted(set(words)))
        self._whole = frozenset(self.words)
        self._beginnings = frozenset(word[:length] for word in self.words for length in range(1, len(word) + 1))

    def __contains__(self, word: str) -> bool:
        return word in self._whole

    def begins(self, letters: str) -> bool:
        """Whether a word begins so, or is that."""
        return letters in self._beginnings


def read_words(path: Path) -> WordList:
    """A file with a word a line; blank lines and lines that begin with # are left out.

    Raises:
        DataError: no such file, a line of several words, or no word at all.
    """
    if not path.is_file():
        raise no_such_path(path)
    words = []
    for number, line in enumerate(text_lines(path), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if len(word.split()) > 1:
            raise DataError(f"{path}:{number}: {word[:60]!r} is more than one word", hint="write one word a line")
        words.append(word)
    if not words:
        raise DataError(f"{path}: holds no word", hint="write one word a line")
    return WordList(words)
