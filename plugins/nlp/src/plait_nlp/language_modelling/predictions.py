"""What does a language model say of a text?"""

from __future__ import annotations

import math
from dataclasses import dataclass

OBJECTIVE = "causal-language-modelling"
"""What problems of this kind ask of a model."""
UNKNOWN = math.log(0x110000)
"""Nats that a character costs which a model knows only as unknown: one of all that Unicode can have."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """How probable a text is, given its context.

    Args:
        nats: minus the natural logarithm of its probability, unknown characters charged.
        tokens: of the model, that it was cut into.
        size: bytes of UTF-8 that were predicted.
        unknown: tokens among them that the model has no number for.
    """

    nats: float
    tokens: int
    size: int
    unknown: int = 0
