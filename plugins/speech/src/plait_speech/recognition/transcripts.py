"""Which spelling do transcripts have, and which characters?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Case = Literal["lower", "upper", "keep"]
Punctuation = Literal["remove", "keep"]

_WITHIN_WORDS = "'’-"  # apostrophe and hyphen between letters belong to the word: don't, well-known


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model heard.

    Args:
        text: words between single spaces; may be empty.
        score: natural logarithm of its probability, as the model's search has it; None where the model has none.
    """

    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How transcripts are made alike before anything learns from them or is judged by them.

    Args:
        case: letters become lower or upper case, or stay.
        punctuation: what is no letter, mark, number or space is removed, but for apostrophes and hyphens between
            letters; or it stays.
    """

    case: Case = "lower"
    punctuation: Punctuation = "remove"

    def of(self, text: str) -> str:
        """The text in this spelling: Unicode's composed form (NFC), words between single spaces."""
        text = unicodedata.normalize("NFC", text)
        if self.case != "keep":
            text = text.lower() if self.case == "lower" else text.upper()
        if self.punctuation == "remove":
            kept = (each if _belongs(text, place) else " " for place, each in enumerate(text))
            text = "".join(kept)
        return " ".join(text.split())


def _belongs(text: str, place: int) -> bool:
    """Whether a character is a letter, mark, number or space, or joins two of them."""
    if unicodedata.category(text[place])[0] in "LMNZ":
        return True
    if text[place] not in _WITHIN_WORDS or not 0 < place < len(text) - 1:
        return False
    return all(unicodedata.category(text[each])[0] in "LMN" for each in (place - 1, place + 1))


def alphabet(texts: Iterable[str]) -> tuple[str, ...]:
    """The characters of some texts, by code point: the space, where there is one, is first."""
    return tuple(sorted({character for text in texts for character in text}))


def outside(text: str, characters: Iterable[str]) -> tuple[str, int] | None:
    """The first character of a text that an alphabet lacks and its place, counted from 1; None where it has all."""
    known = frozenset(characters)
    return next(((each, place) for place, each in enumerate(text, start=1) if each not in known), None)
