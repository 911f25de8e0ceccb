"""Which text do the probabilities of units over time say?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plait_speech.decoding.ngram import END, Gram, Ngram
from plait_speech.decoding.words import WordList
from plait_speech.networks.units import BLANK, Units

Rows = npt.NDArray[np.floating[Any]]
"""Natural logarithms of the probability of blank and each unit, [frames, units + 1]."""

_NEVER = -math.inf
_UNLIKELY = 12.0  # nats below a frame's most probable unit; what lies lower changes no beam that was looked at


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text, as the numbers of its units, and how good it is.

    Args:
        score: nats. Greedy: of the best alignment; a beam: ln P of the text over the alignments kept, with what a
            language model and word bonuses add.
    """

    numbers: tuple[int, ...]
    score: float


class Search(Protocol):
    """Reads rows in any pieces, and says at any time what they mean so far."""

    def advance(self, rows: Rows) -> None:
        """Take in further frames."""

    def best(self, *, final: bool) -> Hypothesis:
        """The best text; `final`: no frame follows, so that its last word is complete."""


class GreedySearch:
    """The most probable unit of each frame, repetitions and blanks taken out (Graves et al. 2006, best path). It knows
    no words."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._last = BLANK
        self._score = 0.0

    def advance(self, rows: Rows) -> None:
        best = rows.argmax(axis=1)
        self._score += float(rows[np.arange(len(rows)), best].sum(dtype=np.float64))
        for number in best.tolist():
            if number not in (BLANK, self._last):
                self._numbers.append(number)
            self._last = number

    def best(self, *, final: bool) -> Hypothesis:
        return Hypothesis(tuple(self._numbers), self._score)


@dataclass(slots=True, eq=False)
class _Prefix:
    """A beginning of a text; prefixes form a tree, so that each is made once.

    Args:
        number, parent: its last unit, and what stands before that.
        bonus: what complete words have added, nats.
        word: the letters since the last space.
        history: what the language model has seen.
        blank, unit: ln P of its alignments that end in a blank, and in its last unit.
    """

    number: int
    parent: _Prefix | None
    bonus: float
    word: str
    history: Gram
    blank: float = _NEVER
    unit: float = _NEVER
    children: dict[int, _Prefix | None] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return _add(self.blank, self.unit)

    def numbers(self) -> tuple[int, ...]:
        return tuple(self._upwards())[::-1]

    def _upwards(self) -> Iterator[int]:
        here: _Prefix | None = self
        while here is not None and here.parent is not None:
            yield here.number
            here = here.parent


class PrefixBeamSearch:
    """Prefix beam search (Hannun et al. 2014, algorithm 1): the alignments of each text are summed, a language model
    and a bonus count when a word is complete. It knows units and words, and no sound.

    With a beam as wide as there are texts it finds the most probable one.

    Args:
        beam: texts kept after each frame.
        language, weight: what is added for each complete word: weight * ln P(word | words before it).
        bonus: nats added for each word, against the short texts that a language model likes.
        words: only these are written; None: anything is.
    """

    def __init__(
        self, units: Units, *, beam: int, language: Ngram | None = None, weight: float = 1.0, bonus: float = 0.0,
        words: WordList | None = None,
    ) -> None:  # fmt: skip
        self._units, self._beam = units, beam
        self._language, self._weight, self._bonus, self._words = language, weight, bonus, words
        root = _Prefix(BLANK, None, 0.0, "", language.start() if language else (), blank=0.0)
        self._kept = [root]

    def advance(self, rows: Rows) -> None:
        for row in rows:
            likely = np.flatnonzero(row >= row.max() - _UNLIKELY).tolist()
            self._step([(number, float(row[number])) for number in likely])

    def _step(self, row: list[tuple[int, float]]) -> None:
        """One frame: every kept prefix stays as it is, or grows by a unit."""
        found: dict[_Prefix, list[float]] = {}
        for prefix in self._kept:
            total = prefix.total
            for number, probability in row:
                if number == BLANK:
                    sums = found.setdefault(prefix, [_NEVER, _NEVER])
                    sums[0] = _add(sums[0], total + probability)
                    continue
                before = total
                if number == prefix.number:  # without a blank between them, two are one
                    sums = found.setdefault(prefix, [_NEVER, _NEVER])
                    sums[1] = _add(sums[1], prefix.unit + probability)
                    before = prefix.blank
                grown = self._grown(prefix, number) if before > _NEVER else None
                if grown is not None:
                    sums = found.setdefault(grown, [_NEVER, _NEVER])
                    sums[1] = _add(sums[1], before + probability)
        for prefix in self._kept:
            prefix.blank = prefix.unit = _NEVER
        for prefix, (blank, unit) in found.items():
            prefix.blank, prefix.unit = blank, unit
        ranked = sorted(found, key=lambda each: each.total + each.bonus, reverse=True)
        self._kept = ranked[: self._beam] or self._kept
        for prefix in ranked[self._beam :]:
            prefix.blank = prefix.unit = _NEVER

    def _grown(self, prefix: _Prefix, number: int) -> _Prefix | None:
        """The prefix and one unit more; None where that begins or ends no word of the list."""
        if number not in prefix.children:
            prefix.children[number] = self._made(prefix, number)
        return prefix.children[number]

    def _made(self, prefix: _Prefix, number: int) -> _Prefix | None:
        symbol = self._units.symbols[number - 1]
        if self._units.kind == "characters" and symbol != " ":
            word = prefix.word + symbol
            if self._words is not None and not self._words.begins(word):
                return None
            return _Prefix(number, prefix, prefix.bonus, word, prefix.history)
        word = prefix.word if self._units.kind == "characters" else symbol
        if not word:  # a space after a space
            return _Prefix(number, prefix, prefix.bonus, "", prefix.history)
        if self._words is not None and word not in self._words:
            return None
        bonus, history = self._complete(prefix, word)
        return _Prefix(number, prefix, bonus, "", history)

    def _complete(self, prefix: _Prefix, word: str) -> tuple[float, Gram]:
        if self._language is None:
            return prefix.bonus + self._bonus, ()
        score, history = self._language.score(prefix.history, word)
        return prefix.bonus + self._bonus + self._weight * score, history

    def best(self, *, final: bool) -> Hypothesis:
        if not final:
            best = max(self._kept, key=lambda each: each.total + each.bonus)
            return Hypothesis(best.numbers(), best.total + best.bonus)
        ended = [(self._ended(each), each) for each in self._kept]
        complete = [(each.total + bonus, each) for bonus, each in ended if bonus is not None]
        if complete:
            score, best = max(complete, key=lambda pair: pair[0])
            return Hypothesis(best.numbers(), score)
        best = max(self._kept, key=lambda each: each.total + each.bonus)  # no word of the list: leave the last one out
        numbers = best.numbers()
        return Hypothesis(numbers[: len(numbers) - len(best.word)], best.total + best.bonus)

    def _ended(self, prefix: _Prefix) -> float | None:
        """What complete words and the text's end add; None where the last word is none of the list."""
        bonus, history = prefix.bonus, prefix.history
        if prefix.word:
            if self._words is not None and prefix.word not in self._words:
                return None
            bonus, history = self._complete(prefix, prefix.word)
        return bonus if self._language is None else bonus + self._weight * self._language.score(history, END)[0]


def _add(one: float, other: float) -> float:
    """ln(e^one + e^other)."""
    if one < other:
        one, other = other, one
    return one if other == _NEVER else one + math.log1p(math.exp(other - one))
