"""Which n-grams does a text have, as a row of a sparse matrix?"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp

from plait_nlp.examples import TextExample

Unit = Literal["word", "character"]
Weighting = Literal["binary", "tfidf"]

_WORD = re.compile(r"\w+|[^\w\s]")
_SIMILARITIES = 4  # columns that compare a text with its pair
_LONGEST = 100_000  # characters of a text that are looked at: the n-grams of a megabyte are those of its beginning


@dataclass(frozen=True, slots=True)
class NGrams:
    """The n-grams that training texts have, and how their counts are weighted. It knows no target.

    Args:
        columns: the number of each n-gram. Those of a pair are told apart by a mark, and those of both by another.
        lengths: the shortest and the longest, words or characters.
        idf: [columns], of tfidf; ones otherwise.
    """

    columns: Mapping[str, int]
    unit: Unit
    lengths: tuple[int, int]
    lowercase: bool
    weighting: Weighting
    pairs: bool
    idf: np.ndarray[Any, np.dtype[np.float64]]

    @classmethod
    def fit(
        cls, examples: Sequence[TextExample], *, unit: Unit, lengths: tuple[int, int], lowercase: bool,
        weighting: Weighting, min_count: int, most: int,
    ) -> Self:  # fmt: skip
        """Count the n-grams of training texts.

        Args:
            min_count: texts that an n-gram must be in.
            most: n-grams to keep, those in most texts.
        """
        pairs = bool(examples) and examples[0].pair is not None
        seen: Counter[str] = Counter()
        for example in examples:
            seen.update(set(_grams(example, unit, lengths, lowercase)))
        kept = sorted(
            (gram for gram, count in seen.items() if count >= min_count), key=lambda gram: (-seen[gram], gram)
        )
        names = kept[:most]
        idf = np.array([math.log((1 + len(examples)) / (1 + seen[gram])) + 1 for gram in names])
        idf = idf if weighting == "tfidf" else np.ones(len(names))
        return cls({gram: index for index, gram in enumerate(names)}, unit, lengths, lowercase, weighting, pairs, idf)

    @property
    def width(self) -> int:
        """Columns in all."""
        return len(self.columns) + (_SIMILARITIES if self.pairs else 0)

    def matrix(self, examples: Sequence[TextExample]) -> Any:
        """[examples, width], CSR, float64: ones for what occurs, or sublinear tf-idf of length one; for pairs, numbers
        in [0, 1] that say how alike both are come last."""
        starts, index, values = [0], [], []
        for example in examples:
            counts = Counter(
                column for gram in _grams(example, self.unit, self.lengths, self.lowercase)
                if (column := self.columns.get(gram)) is not None
            )  # fmt: skip
            own = sorted(counts)
            index += own
            values += [1.0 if self.weighting == "binary" else 1 + math.log(counts[column]) for column in own]
            if self.pairs:
                index += range(len(self.columns), self.width)
                values += _similarities(example)
            starts.append(len(index))
        found = sp.csr_matrix(
            (np.array(values), np.array(index, np.int32), np.array(starts, np.int64)), (len(examples), self.width)
        )
        if self.weighting == "tfidf":
            found = _weighted(found, self.idf, len(self.columns))
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything but `idf`, which is a tensor."""
        return {
            "columns": list(self.columns), "unit": self.unit, "lengths": list(self.lengths),
            "lowercase": self.lowercase, "weighting": self.weighting, "pairs": self.pairs,
        }  # fmt: skip

    @classmethod
    def from_json(cls, state: Mapping[str, Any], idf: np.ndarray[Any, np.dtype[np.float64]]) -> Self:
        columns = {gram: index for index, gram in enumerate(state["columns"])}
        first, last = state["lengths"]
        return cls(columns, state["unit"], (first, last), state["lowercase"], state["weighting"], state["pairs"], idf)


def _weighted(counts: Any, idf: np.ndarray[Any, np.dtype[np.float64]], ngrams: int) -> Any:
    """Counts times idf, the n-grams of each row scaled to length one; further columns stay as they are."""
    scale = np.concatenate([idf, np.ones(counts.shape[1] - ngrams)])
    weighted = counts.multiply(scale).tocsr()
    squares = weighted[:, :ngrams].multiply(weighted[:, :ngrams]).sum(axis=1)
    lengths = np.sqrt(np.asarray(squares)).reshape(-1)
    rows = np.repeat(np.where(lengths > 0, lengths, 1.0), np.diff(weighted.indptr))
    weighted.data /= np.where(weighted.indices < ngrams, rows, 1.0)
    return weighted


def _grams(example: TextExample, unit: Unit, lengths: tuple[int, int], lowercase: bool) -> Iterator[str]:
    own = list(_of(example.text, unit, lengths, lowercase))
    yield from own
    if example.pair is not None:
        other = list(_of(example.pair, unit, lengths, lowercase))
        yield from (f"\x02{gram}" for gram in other)
        yield from (f"\x03{gram}" for gram in sorted(set(own) & set(other)))


def _of(text: str, unit: Unit, lengths: tuple[int, int], lowercase: bool) -> Iterable[str]:
    text = text[:_LONGEST]
    text = text.lower() if lowercase else text
    parts: Sequence[str] = words_of(text) if unit == "word" else f" {' '.join(text.split())} "
    join = " ".join if unit == "word" else "".join
    for length in range(lengths[0], lengths[1] + 1):
        for first in range(len(parts) - length + 1):
            yield join(parts[first : first + length])


def words_of(text: str) -> list[str]:
    """Words and single punctuation marks, in order."""
    return _WORD.findall(text)


def _similarities(example: TextExample) -> list[float]:
    """How alike a text and its pair are: shared words, shared character trigrams, shared numbers, lengths."""
    one, other = example.text[:_LONGEST].lower(), (example.pair or "")[:_LONGEST].lower()
    found = []
    for parts in (
        words_of,
        lambda text: [text[index : index + 3] for index in range(len(text) - 2)],
        re.compile(r"\d+").findall,
    ):
        first, second = set(parts(one)), set(parts(other))
        found.append(len(first & second) / len(first | second) if first | second else 1.0)
    return [*found, min(len(one), len(other)) / max(len(one), len(other), 1)]
