"""What is a question about a context, with its answers, and what does a model answer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A part of a context.

    Args:
        start: its first character in the context.
        text: as it is there; its end is at `start + len(text)`.
    """

    start: int
    text: str

    @property
    def end(self) -> int:
        """The character after it."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a context.

    Args:
        question, context: as read.
        answers: right ones, each of which will do; () where the context has none; None where it is to be found.
        id: of the question.
        article: what the context is a part of: no article is in two splits.
    """

    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    id: str = ""
    article: str = ""

    @property
    def text(self) -> str:
        """The question."""
        return self.question

    @property
    def pair(self) -> str:
        """The context."""
        return self.context

    @property
    def label(self) -> str | None:
        """The answers as one text."""
        return None if self.answers is None else "; ".join(f"{each.start}:{each.text}" for each in self.answers)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A part of the context that may be the answer.

    Args:
        score: how well it fits; comparable with others of this question only.
        probability: among the candidates, and no answer where the model knows of it.
    """

    answer: Answer
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class AnswerPrediction:
    """What a model answers.

    Args:
        best: candidates, the best one first.
        answered: whether the best one is the answer; else there is none.
        no_answer: how probable it is that there is none; None where the model does not know.
        surplus: by how much the score of no answer is above that of the best candidate; a threshold decides. None
            where the model does not know.
    """

    best: Sequence[Candidate]
    answered: bool
    no_answer: float | None = None
    surplus: float | None = None

    @property
    def text(self) -> str:
        """The answer, "" where there is none."""
        return self.best[0].answer.text if self.answered and self.best else ""
