"""What does generation ask of a causal language model?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float64]


class Continuation(ABC):
    """Gives, for several rows of tokens at once, logits of the next one. It chooses none.

    `begin` reads rows whole; `extend` adds a token to each and may remember what was read (a cache of keys and values);
    `select` drops and reorders rows. A model that has one (`Continues`) can generate.

    Args:
        limit: tokens that a row can have; None: any number.
        boundary: the token before and after a text; None: there is none.
        banned: tokens that are never chosen: padding, unknown.
    """

    limit: int | None
    boundary: int | None
    banned: tuple[int, ...]

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt, without any around it."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    @abstractmethod
    def begin(self, rows: Sequence[Sequence[int]]) -> Logits:
        """Forget everything, read rows (each some tokens, at most `limit`); logits of the next, [rows, vocabulary]."""

    @abstractmethod
    def extend(self, tokens: Sequence[int]) -> Logits:
        """Read one more token of each row; logits [rows, vocabulary]. No row may be full."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order; a row may be taken several times."""


@runtime_checkable
class Continues(Protocol):
    """A causal language model that can generate."""

    def continuation(self) -> Continuation:
        """Something that gives next tokens; each caller gets its own."""
        ...
