"""What can be set of how an architecture of transformers finds answers?"""

from __future__ import annotations

from pydantic import Field

from plait.options import AFTERWARDS, Options


class AnswerOptions(Options):
    """How contexts are read and answers are found, for question answering."""

    overlap: int = Field(default=64, ge=0)
    """Tokens of a long context that two rows share; at most a quarter of a row."""
    longest: int = Field(default=30, ge=1, json_schema_extra=AFTERWARDS)
    """Tokens of an answer at most."""
    candidates: int = Field(default=5, ge=1, json_schema_extra=AFTERWARDS)
    """Answers that a prediction lists."""
    no_answer: float = Field(default=0.0, json_schema_extra=AFTERWARDS)
    """By how much the score of no answer must be above the best answer's to be chosen, where the training data have
    questions without an answer; an evaluation says which threshold would have been best."""
