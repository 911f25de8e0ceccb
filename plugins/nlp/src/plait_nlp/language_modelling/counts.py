"""How often does each symbol follow which others, and how probable does that make it (Witten and Bell 1991)?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ABSENT = -1


class Symbols(NamedTuple):
    """Parts of texts, one after another, as numbers.

    Args:
        numbers: [symbols].
        before: how many symbols of the same part stand before each, [symbols].
        wanted: whether each is counted, or scored; else it is context only, [symbols].
    """

    numbers: Codes
    before: Codes
    wanted: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Order:
    """All n-grams of one length that occur, as numbers from 0 on.

    Args:
        codes: [grams] sorted: the number of the gram without its last symbol, times `symbols`, plus the last symbol.
        counts: [grams] how often each occurs.
        shorter: how many grams there are of one symbol less.
        symbols: how many kinds there are.
    """

    codes: Codes
    counts: Codes
    shorter: int
    symbols: int

    @cached_property
    def totals(self) -> Codes:
        """How often each shorter gram is followed by anything, [shorter]."""
        sums = np.bincount(self.codes // self.symbols, self.counts, self.shorter)
        return sums.astype(np.int64)

    @cached_property
    def kinds(self) -> Codes:
        """By how many different symbols each shorter gram is followed, [shorter]."""
        return np.bincount(self.codes // self.symbols, minlength=self.shorter)

    def find(self, shorter: Codes, last: Codes) -> Codes:
        """The numbers of grams, by those of the grams without the last symbol, and it; ABSENT where there is none."""
        if not len(self.codes):
            return np.full(len(last), ABSENT)
        wanted = shorter * self.symbols + last
        at = np.minimum(np.searchsorted(self.codes, wanted), len(self.codes) - 1)
        return np.where((shorter >= 0) & (self.codes[at] == wanted), at, ABSENT)


@dataclass(frozen=True)
class Counts:
    """n-gram counts of all lengths up to one, and the probabilities that they give. It knows no text.

    A history that occurred c times with T different followers gives its followers c / (c + T) of the probability, as
    often as each followed, and leaves T / (c + T) to the history without its first symbol. Behind the empty one all
    symbols are equal.

    Args:
        orders: single symbols first.
    """

    orders: tuple[Order, ...]

    @classmethod
    def fit(cls, parts: Callable[[], Iterable[Symbols]], *, order: int, symbols: int) -> Counts:
        """Count; `parts` gives the text again for each length, and only the counts are held."""
        found = cls(())
        for length in range(1, order + 1):
            codes, counts = np.empty(0, np.int64), np.empty(0, np.int64)
            for part in parts():
                shorter = found.histories(part)[-1]
                kept = part.wanted & (shorter >= 0) & (part.before >= length - 1)
                new = np.unique(shorter[kept] * symbols + part.numbers[kept], return_counts=True)
                codes, counts = _merged(codes, counts, *new)
            below = len(found.orders[-1].codes) if found.orders else 1
            found = cls((*found.orders, Order(codes, counts, below, symbols)))
        return found

    def histories(self, part: Symbols) -> list[Codes]:
        """For lengths from 0 to the longest: the number of the gram of that length that ends before each symbol."""
        found = [np.zeros(len(part.numbers), np.int64)]
        for length, order in enumerate(self.orders, start=1):
            ends_here = order.find(found[-1], part.numbers)
            moved = np.concatenate([[ABSENT], ends_here[:-1]]) if len(ends_here) else ends_here
            found.append(np.where(part.before >= length, moved, ABSENT))
        return found

    def probabilities(self, part: Symbols) -> Floats:
        """Of each symbol after those before it, [symbols]."""
        found = np.full(len(part.numbers), 1.0 / self.orders[0].symbols)
        for order, history in zip(self.orders, self.histories(part), strict=False):
            if not len(order.codes):  # every text is shorter
                break
            gram = order.find(history, part.numbers)
            total, kinds = order.totals[history], order.kinds[history]  # of the last one where ABSENT: not used
            seen = np.where(gram >= 0, order.counts[gram], 0)
            better = (seen + kinds * found) / np.maximum(total + kinds, 1)
            found = np.where((history >= 0) & (total > 0), better, found)
        return found

    def following(self, history: Sequence[int]) -> Floats:
        """The probability of every symbol after the last ones of a text, [kinds]."""
        kinds = self.orders[0].symbols
        found = np.full(kinds, 1.0 / kinds)
        last = np.asarray(history[len(history) - min(len(history), len(self.orders) - 1) :], np.int64)
        for length, order in enumerate(self.orders):
            if length > len(last):
                break
            number = np.zeros(1, np.int64)
            for below, symbol in zip(self.orders, last[len(last) - length :], strict=False):
                number = below.find(number, np.array([symbol]))
            if number[0] < 0 or not order.totals[number[0]]:
                break
            low, high = np.searchsorted(order.codes, [number[0] * kinds, (number[0] + 1) * kinds])
            found = found * (high - low)
            found[order.codes[low:high] % kinds] += order.counts[low:high]
            found = found / (order.totals[number[0]] + (high - low))
        return found


def _merged(codes: Codes, counts: Codes, new: Codes, more: Codes) -> tuple[Codes, Codes]:
    """Counts by code of both, sorted by code."""
    if not len(codes):
        return new, more.astype(np.int64)
    both, where = np.unique(np.concatenate([codes, new]), return_inverse=True)
    sums = np.zeros(len(both), np.int64)
    np.add.at(sums, where[: len(codes)], counts)
    np.add.at(sums, where[len(codes) :], more)
    return both, sums
