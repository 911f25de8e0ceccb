"""What do the vectors of words say: which are near, what an analogy's last word is, which word fits a gap?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from plait.errors import DataError, near
from plait.textlines import text_lines
from plait_nlp.word_embedding.words import Analogy, Gap, Query, Question, Similarity

Floats32 = npt.NDArray[np.float32]
_AT_ONCE = 512  # questions whose cosines with all words are held: 512 of 400,000 words are 0.8 GB


@dataclass(frozen=True, slots=True)
class Said:
    """What vectors say to a question.

    Args:
        question: the one that it is for.
        scores: of a gap's candidates, how well each goes with the words around; of a similarity, one cosine; NaN where
            a word has no vector.
        nearest: words with their cosines, the nearest first: of an analogy, and of a user's words.
        vector: [width], of length one, of a user's words.
        unknown: words of it that have no vector.
        hint: near names of these.
    """

    question: Question
    scores: tuple[float, ...] = ()
    nearest: tuple[tuple[str, float], ...] = ()
    vector: Floats32 | None = None
    unknown: tuple[str, ...] = ()
    hint: str = ""


class WordVectors:
    """Words, the most frequent first, and their vectors. It knows no text and how nothing of it was learned.

    Args:
        words: each once.
        vectors: [words, width].
        together: two tables [words, width], whose products say how much more often than by chance a word (a row of the
            first) stands near another (of the second); None: the cosines of `vectors` must do.
    """

    def __init__(
        self, words: Sequence[str], vectors: Floats32, together: tuple[Floats32, Floats32] | None = None
    ) -> None:
        self.words, self.vectors = list(words), np.ascontiguousarray(vectors, np.float32)
        self.together = together
        self._numbers = {word: number for number, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> Floats32:
        """The vectors at length one, [words, width]; zeros stay."""
        lengths = np.sqrt(np.square(self.vectors).sum(axis=1, keepdims=True))
        found: Floats32 = (self.vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return found

    def number(self, word: str) -> int | None:
        """A word's row; in lower case, where it has none as it is."""
        found = self._numbers.get(word)
        return self._numbers.get(word.lower()) if found is None else found

    def __contains__(self, word: str) -> bool:
        return self.number(word) is not None

    def __len__(self) -> int:
        return len(self.words)

    def nearest(
        self, wanted: Floats32, *, without: Sequence[Sequence[int]], top: int
    ) -> list[tuple[tuple[str, float], ...]]:
        """The words of the largest cosines.

        Args:
            wanted: [rows, width], of length one.
            without: for each row, words that are no answer.
        """
        found = []
        for first in range(0, len(wanted), _AT_ONCE):
            cosines = wanted[first : first + _AT_ONCE] @ self.unit.T
            for row, skipped in zip(cosines, without[first : first + _AT_ONCE], strict=True):
                row[list(skipped)] = -np.inf
                count = min(top, len(row) - len(set(skipped)))
                best = np.argpartition(-row, count - 1)[:count] if count else np.zeros(0, np.int64)
                best = best[np.lexsort((best, -row[best]))]
                found.append(tuple((self.words[each], float(row[each])) for each in best.tolist()))
        return found

    def answer(self, questions: Sequence[Question], *, top: int = 10) -> list[Said]:
        """What the vectors say to each.

        Args:
            top: how many neighbours of a user's words.
        """
        said: list[Said | None] = [None] * len(questions)
        asked: dict[int, tuple[Floats32, list[int], tuple[str, ...]]] = {}
        for place, question in enumerate(questions):
            if isinstance(question, Gap):
                said[place] = Said(question, self._gap(question))
            elif isinstance(question, Similarity):
                numbers = self.number(question.first), self.number(question.second)
                cosine = float("nan") if None in numbers else float(np.dot(*(self.unit[each] for each in numbers)))
                said[place] = Said(question, (cosine,))
            elif (sum_ := self._sum(question)) is None:
                missing = _words_of(question)
                hint = "; ".join(
                    f"near {word!r}: {', '.join(close)}" for word in missing if (close := near(word, self.words))
                )
                said[place] = Said(question, unknown=missing, hint=hint)
            else:
                asked[place] = sum_
        for analogies in (True, False):
            some = [place for place in asked if isinstance(questions[place], Analogy) == analogies]
            if not some:
                continue
            wanted = np.stack([asked[place][0] for place in some])
            lists = self.nearest(wanted, without=[asked[place][1] for place in some], top=1 if analogies else top)
            for place, words in zip(some, lists, strict=True):
                vector, _, unknown = asked[place]
                said[place] = Said(questions[place], (), words, vector, unknown)
        return [each for each in said if each is not None]

    def _gap(self, gap: Gap) -> tuple[float, ...]:
        """How well each candidate goes with the words around: the mean of its products with them."""
        own, others = self.together or (self.unit, self.unit)
        around = [number for word in gap.around if (number := self.number(word)) is not None]
        numbers = [self.number(word) for word in gap.candidates]
        mean = others[around].mean(axis=0) if around else np.zeros(others.shape[1], np.float32)
        return tuple(float("nan") if each is None else float(own[each] @ mean) for each in numbers)

    def _sum(self, question: Analogy | Query) -> tuple[Floats32, list[int], tuple[str, ...]] | None:
        """The direction of a question's words, their rows, and words without one; None where it cannot be answered.

        An analogy is answered by the vector second - first + third of unit vectors (3CosAdd, Mikolov et al. 2013).
        """
        plus, minus = (
            ((question.second, question.third), (question.first,))
            if isinstance(question, Analogy)
            else (question.plus, question.minus)
        )
        rows = {word: self.number(word) for word in (*plus, *minus)}
        unknown = tuple(word for word, row in rows.items() if row is None)
        known = [row for row in rows.values() if row is not None]
        if not known or (isinstance(question, Analogy) and unknown):
            return None
        total = np.zeros(self.vectors.shape[1], np.float32)
        for words, sign in ((plus, 1), (minus, -1)):
            for word in words:
                if (row := rows[word]) is not None:
                    total += sign * self.unit[row]
        length = float(np.sqrt(total @ total))
        return total / (length or 1.0), known, unknown

    # The format of word2vec

    def write(self, path: Path | str) -> None:
        """Write the text format of word2vec, which gensim, fastText and spaCy read: "words width", then a word and its
        numbers a line. Numbers have nine digits, which give float32 back exactly.

        Raises:
            DataError: a word holds a space.
        """
        spaced = next((word for word in self.words if not word or word.split() != [word]), None)
        if spaced is not None:
            raise DataError(f"the word {spaced!r} holds a space, which the text format of word2vec cannot hold")
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{len(self.words)} {self.vectors.shape[1]}\n")
            for word, row in zip(self.words, self.vectors, strict=True):
                file.write(f"{word} {' '.join(f'{each:.9g}' for each in row.tolist())}\n")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read that format, also without its first line (as GloVe writes it).

        Raises:
            DataError: names the line that is wrong.
        """
        words: list[str] = []
        rows: list[list[float]] = []
        seen: set[str] = set()
        for number, line in enumerate(text_lines(Path(path)), start=1):
            cells = line.rstrip("\r\n ").split(" ")
            if number == 1 and len(cells) == 2 and all(each.isdecimal() for each in cells):
                continue
            try:
                row = [float(each) for each in cells[1:]]
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a word and numbers: {error}") from error
            if not row or (rows and len(row) != len(rows[0])):
                raise DataError(
                    f"{path}:{number}: {len(row)} numbers where the first word has {len(rows[0]) if rows else 'none'}"
                )
            if cells[0] in seen:
                raise DataError(f"{path}:{number}: the word {cells[0]!r} is there twice")
            seen.add(cells[0])
            words.append(cells[0])
            rows.append(row)
        if not rows:
            raise DataError(
                f"{path}: holds no vector", hint='expected "words width", then a word and its numbers a line'
            )
        return cls(words, np.array(rows, np.float32))


def _words_of(question: Question) -> tuple[str, ...]:
    if isinstance(question, Query):
        return (*question.plus, *question.minus)
    return (question.first, question.second, question.third) if isinstance(question, Analogy) else ()
