"""How well does one do without any model: copying the text, or its first sentences?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from plait.model import Model
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_nlp.documents import split_sentences
from plait_nlp.sequence_to_sequence.examples import SequenceExample, WrittenText


class Copy(Model):
    """Writes what it reads."""

    def __init__(self, options: ModelOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem

    @classmethod
    def create(cls, *, options: ModelOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options, problem)

    def predict(self, examples: Sequence[SequenceExample]) -> list[WrittenText]:
        return [WrittenText(each.text) for each in examples]

    def save(self, directory: Path) -> None:
        """There is nothing to be saved."""

    @classmethod
    def load(cls, directory: Path, *, options: ModelOptions, problem: Problem) -> Self:
        return cls(options, problem)


class LeadOptions(ModelOptions):
    """The `model` block of nlp/lead-1 and nlp/lead-3."""

    sentences: int = Field(default=1, ge=1)
    """That are taken from the beginning."""


class Lead(Copy):
    """Writes the first sentences of what it reads: of news, which begins with what matters, hard to beat."""

    Options: ClassVar[type[ModelOptions]] = LeadOptions

    options: LeadOptions

    def predict(self, examples: Sequence[SequenceExample]) -> list[WrittenText]:
        return [WrittenText(" ".join(self._sentences(each)[: self.options.sentences])) for each in examples]

    def _sentences(self, example: SequenceExample) -> Any:
        return example.sentences or split_sentences(example.text)
