"""How are words hidden from a network, and how many guesses does it give?"""

from __future__ import annotations

from pydantic import Field

from plait.options import AFTERWARDS, Options


class MaskingOptions(Options):
    """What an architecture that learns hidden words does with its tokens (Devlin et al. 2019): of those chosen, 80 %
    are hidden, 10 % become another token, 10 % stay, and all are to be told. Each visit of a text has its own."""

    probability: float = Field(default=0.15, gt=0, lt=1)
    """The part of a row's tokens that is chosen; at least one is."""
    whole_words: bool = False
    """Whether all tokens of a word are chosen together, which is harder; a few more than asked for are then chosen."""
    top: int = Field(default=5, ge=1, le=100, json_schema_extra=AFTERWARDS)
    """How many guesses of a hidden word are shown, the most probable first."""
