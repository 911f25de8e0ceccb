"""Which words does a document have, and what is asked of their vectors?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plait_nlp.documents import Document

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")  # a typographic apostrophe
CANDIDATES = 10
"""Words of a gap: the one that stood there, and others."""
_FREQUENT = 5  # occurrences in training of a word that gaps ask for, where there are enough such words
_RARE = 1e-3  # a word of a larger share of the text is asked for less often, as word2vec's subsampling has it


@dataclass(frozen=True, slots=True)
class Sentences:
    """A training document as the words of its sentences."""

    words: tuple[tuple[str, ...], ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Which of several words stood between these?

    Args:
        around: words near it, to both sides.
        candidates: the first is the right one.
    """

    around: tuple[str, ...]
    candidates: tuple[str, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Analogy:
    """What is to `third` as `second` is to `first`? `answer`, among all words but these three."""

    first: str
    second: str
    third: str
    answer: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike are two words, as people say? `score`, on any scale."""

    first: str
    second: str
    score: float
    id: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A user's words: those that are added up, and those that are taken away."""

    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    id: str = ""


Question = Gap | Analogy | Similarity | Query


def words_in(text: str, *, lowercase: bool) -> list[str]:
    """The words of a text: runs of letters and digits, with apostrophes and hyphens inside."""
    return _WORD.findall(text.lower() if lowercase else text)


def sentences_of(documents: Sequence[Document], *, lowercase: bool) -> list[Sentences]:
    """Documents as words; sentences without any are left out, and so are documents without such a sentence."""
    names: dict[str, str] = {}  # one object for each word, however often it occurs
    found = []
    for each in documents:
        words = (words_in(text, lowercase=lowercase) for text in each.sentences)
        kept = tuple(tuple(names.setdefault(word, word) for word in row) for row in words if row)
        if kept:
            found.append(Sentences(kept, each.id))
    return found


def counts_of(split: Sequence[Sentences]) -> Counter[str]:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for each in split:
        for row in each.words:
            counts.update(row)
    return counts


def gaps_in(split: Sequence[Sentences], counts: Counter[str], *, most: int, window: int, seed: int) -> list[Gap]:
    """Questions after words that stood in held-out sentences, among others drawn as frequent words are, with the power
    3/4 (as word2vec's negatives).

    Args:
        counts: of the training words; others are not asked for.
        window: words to each side that are given.
    """
    known = [word for word, count in counts.items() if count >= _FREQUENT]
    known = sorted(known if len(known) >= 2 * CANDIDATES else counts)
    if len(known) < CANDIDATES:
        return []
    generator, total = np.random.default_rng(seed), counts.total()
    chance = np.array([counts[word] for word in known], np.float64) ** 0.75
    limits = np.cumsum(chance / chance.sum())
    asked = set(known)
    places = [
        (row, at) for row, at in _places(split)
        if row[at] in asked and generator.random() < (_RARE * total / counts[row[at]]) ** 0.5
    ]  # fmt: skip
    chosen = sorted(generator.permutation(len(places))[:most].tolist())
    found = []
    for number, (row, at) in enumerate(places[index] for index in chosen):
        others: list[str] = []
        while len(others) < CANDIDATES - 1:
            word = known[min(int(np.searchsorted(limits, generator.random())), len(known) - 1)]
            if word != row[at] and word not in others:
                others.append(word)
        around = (*row[max(0, at - window) : at], *row[at + 1 : at + 1 + window])
        found.append(Gap(around, (row[at], *others), f"gap/{number}"))
    return found


def _places(split: Sequence[Sentences]) -> Iterator[tuple[tuple[str, ...], int]]:
    for each in split:
        for row in each.words:
            for at in range(len(row)):
                if len(row) > 1:
                    yield row, at
