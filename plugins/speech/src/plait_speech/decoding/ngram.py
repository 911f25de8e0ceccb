"""How probable is a word after the words before it?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from plait.errors import IntegrityError

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
"""What stands before a text, after it, and for a word that the model has never met."""

Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ngram:
    """A back-off model of word sequences (Katz 1987), the tables of an ARPA file in memory. It knows no sound.

    Args:
        order: the longest n-gram; 2 is a bigram model.
        probabilities: natural logarithm of P(last word | words before it), for each n-gram that has its own.
        backoffs: natural logarithm of what is left for words that have none, by the words before them.
    """

    order: int
    probabilities: Mapping[Gram, float]
    backoffs: Mapping[Gram, float]

    def start(self) -> Gram:
        """The history of a text's first word."""
        return (START,)[: self.order - 1]

    def score(self, history: Gram, word: str) -> tuple[float, Gram]:
        """ln P(word | history), in nats, and the history of the next word.

        A word that the model lacks is `UNKNOWN`; where it lacks that, too, it is as rare as its rarest word.
        """
        if (word,) not in self.probabilities:
            word = UNKNOWN
        following = (*history, word)[max(0, len(history) + 2 - self.order) :] if self.order > 1 else ()
        total = 0.0
        while True:
            found = self.probabilities.get((*history, word))
            if found is not None:
                return total + found, following
            if not history:
                return total + min(self.probabilities.values()), following
            total += self.backoffs.get(history, 0.0)
            history = history[1:]

    def text(self, words: Iterable[str]) -> float:
        """ln P of a whole text, its end included, in nats."""
        history, total = self.start(), 0.0
        for word in (*words, END):
            found, history = self.score(history, word)
            total += found
        return total

    @classmethod
    def fitted(cls, texts: Iterable[Sequence[str]], *, order: int = 2) -> Self:
        """The Witten-Bell interpolated model of some texts (Witten and Bell 1991, method C; Chen and Goodman 1998,
        equation 18):

            P(w | h) = (c(h w) + T(h) P(w | h')) / (c(h) + T(h))

        where c counts, T(h) is how many different words follow h, h' is h without its first word, and below single
        words lies the uniform distribution over the vocabulary with `END` and `UNKNOWN`. It needs no held-out data and
        is defined for the smallest of texts. For each history the probabilities sum to one.
        """
        counts: dict[Gram, Counter[str]] = defaultdict(Counter)
        vocabulary = {END, UNKNOWN}
        for text in texts:
            words = (*text, END)
            vocabulary.update(words)
            padded = (START, *words)
            for position, word in enumerate(words, start=1):
                for length in range(min(order - 1, position) + 1):
                    counts[padded[position - length : position]][word] += 1
        probabilities: dict[Gram, float] = {}
        backoffs: dict[Gram, float] = {}
        for history in sorted(counts, key=len):
            seen = counts[history]
            total, kinds = sum(seen.values()), len(seen)
            for word in sorted(vocabulary) if not history else seen:
                below = math.exp(_lower(probabilities, backoffs, history[1:], word)) if history else 1 / len(vocabulary)
                probabilities[(*history, word)] = math.log((seen[word] + kinds * below) / (total + kinds))
            if history:
                backoffs[history] = math.log(kinds / (total + kinds))
        if not counts:
            probabilities = {(word,): -math.log(len(vocabulary)) for word in vocabulary}
        return cls(order, probabilities, backoffs)

    def as_json(self) -> dict[str, Any]:
        """The tables as JSON values; words of an n-gram are joined by spaces, which they never hold."""
        tables = {"probabilities": self.probabilities, "backoffs": self.backoffs}
        return {
            "order": self.order,
            **{name: {" ".join(k): v for k, v in each.items()} for name, each in tables.items()},
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The model that `as_json` described.

        Raises:
            IntegrityError: it describes none.
        """
        try:
            probabilities, backoffs = (
                {tuple(key.split()): float(value) for key, value in state[name].items()}
                for name in ("probabilities", "backoffs")
            )
            return cls(int(state["order"]), probabilities, backoffs)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"this describes no language model: {error!r}") from error


def _lower(probabilities: Mapping[Gram, float], backoffs: Mapping[Gram, float], history: Gram, word: str) -> float:
    """The interpolated probability at a shorter history; every word has one there, if only by backing off."""
    total = 0.0
    while (*history, word) not in probabilities:
        total += backoffs.get(history, 0.0)
        history = history[1:]
    return total + probabilities[(*history, word)]
