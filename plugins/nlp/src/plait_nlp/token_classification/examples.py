"""What is one sentence with the tags of its words, and what does a model say of it?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"https?://\S+|[@#]\w+|\w+(?:[.,:'’-]\w+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class TokenExample:
    """A text that is divided into words, each perhaps with a tag.

    Args:
        text: as read; words from a table or a CoNLL file with a space between them.
        spans: the characters of each word in `text`: (first, end).
        tags: one for each word, in IOB2; None where they are to be predicted.
        id: of the sentence.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    tags: tuple[str, ...] | None = None
    id: str = ""

    @property
    def words(self) -> list[str]:
        """The words."""
        return [self.text[first:end] for first, end in self.spans]

    @property
    def pair(self) -> None:
        """There is one text only."""
        return None

    @property
    def label(self) -> str | None:
        """The tags as one text."""
        return None if self.tags is None else " ".join(self.tags)


@dataclass(frozen=True, slots=True)
class TagPrediction:
    """What a model says of a sentence's words.

    Args:
        example: the sentence.
        tags: one for each word, in IOB2.
        scores: [words], how probable each tag is.
    """

    example: TokenExample
    tags: Sequence[str]
    scores: npt.NDArray[np.floating]


def of_words(words: Sequence[str], tags: Sequence[str] | None = None, id: str = "") -> TokenExample:
    """An example from words, with a space between them."""
    ends = list(accumulate(len(word) + 1 for word in words))
    spans = tuple((end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True))
    return TokenExample(" ".join(words), spans, None if tags is None else tuple(tags), id)


def of_text(text: str) -> TokenExample:
    """An example from a running text: words with apostrophes, hyphens and decimal points inside, @names, #tags and
    links whole, and every other mark by itself."""
    return TokenExample(text, tuple(match.span() for match in _WORD.finditer(text)))
