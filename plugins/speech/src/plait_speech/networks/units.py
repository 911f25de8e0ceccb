"""What does a recogniser write: which characters or words, and how do texts become their numbers?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from plait.errors import IntegrityError, RecipeError

UnitKind = Literal["characters", "words"]

BLANK = 0
"""The number that writes nothing."""

_MOST_WORDS = 20_000  # an output layer as wide as a dictionary learns nothing of words that it rarely hears


@dataclass(frozen=True, slots=True)
class Units:
    """The outputs of a recogniser: blank, then symbols. It knows neither sounds nor probabilities.

    Args:
        kind: characters (the space among them), or whole words between spaces.
        symbols: number n + 1 stands for `symbols[n]`.
    """

    kind: UnitKind
    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(UnitKind) or len(set(self.symbols)) < len(self.symbols):
            raise IntegrityError(f"these are no units of a recogniser: {self.kind!r}, {len(self.symbols)} symbols")

    def __len__(self) -> int:
        """The width of a model's output: the symbols and blank."""
        return len(self.symbols) + 1

    @classmethod
    def of(cls, kind: UnitKind, *, alphabet: Sequence[str], texts: Iterable[str]) -> Self:
        """The characters of an alphabet, or the words of training texts in order.

        Raises:
            RecipeError: there are none, or more words than an output layer can learn.
        """
        if kind == "characters":
            return cls(kind, tuple(alphabet))
        words = sorted({word for text in texts for word in text.split()})
        if not words:
            raise RecipeError("model.units=words, and the training transcripts hold none", hint="give training data")
        if len(words) > _MOST_WORDS:
            raise RecipeError(
                f"model.units=words, and the training transcripts hold {len(words):,} different ones",
                hint=f"use model.units=characters above {_MOST_WORDS:,} words",
            )
        return cls(kind, tuple(words))

    def encode(self, text: str) -> tuple[list[int], list[str]]:
        """The numbers of a text's symbols, and the symbols that there is no number for, which are left out."""
        found = {symbol: number for number, symbol in enumerate(self.symbols, start=1)}
        parts = list(text) if self.kind == "characters" else text.split()
        return [found[each] for each in parts if each in found], [each for each in parts if each not in found]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of some numbers; blanks write nothing, runs of spaces are one."""
        parts = [self.symbols[number - 1] for number in numbers if number != BLANK]
        return " ".join(parts) if self.kind == "words" else " ".join("".join(parts).split())

    def as_json(self) -> dict[str, Any]:
        """The units as JSON values."""
        return {"kind": self.kind, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The units that `as_json` described."""
        return cls(state["kind"], tuple(state["symbols"]))
