"""How does a model answer while its input is still arriving?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Live(ABC):
    """One input that arrives in pieces, and what a model makes of it so far. It ends with `finish`.

    `Model.live` gives one; the task says what the pieces are (`Task.pieces`). It knows no file and no clock.
    """

    @abstractmethod
    def accept(self, piece: Any) -> Any:
        """Take in a piece; the prediction so far, of the type that `predict` gives. It may still change."""

    @abstractmethod
    def finish(self) -> Any:
        """Nothing follows: the prediction."""
