"""What is learned: vectors of words, by which words that are used alike are near each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.options import PATH, DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.documents import SUPPORTED, DocumentOptions, Examples, read_documents
from plait_nlp.word_embedding.evaluation import VectorsEvaluator
from plait_nlp.word_embedding.questions import analogies_of, similarities_of
from plait_nlp.word_embedding.vectors import Said
from plait_nlp.word_embedding.words import (
    Analogy,
    Gap,
    Query,
    Question,
    Similarity,
    counts_of,
    gaps_in,
    sentences_of,
    words_in,
)

_ASKED = ("analogies", "similarities")


class WordOptions(DocumentOptions):
    """The recipe's `data` block for words' vectors."""

    lowercase: bool = True
    """Whether case is dropped."""
    gaps: int = Field(default=1000, ge=0)
    """Questions after a left-out word of held-out text, in valid and in test, at most."""
    gap_window: int = Field(default=5, ge=1)
    """Words to each side that are given in such a question."""
    analogies: str | None = Field(default=None, json_schema_extra=PATH)
    """A file of analogies that test has as well: four words a line."""
    similarities: str | None = Field(default=None, json_schema_extra=PATH)
    """A file of pairs of words that people have scored, which test has as well: two words and a number a line."""


class WordEmbedding(Task):
    """Vectors of words, from running text. It knows no model.

    Training examples are `Sentences`. Examples of valid and test are questions: which of ten words stood in a held-out
    sentence (`Gap`), and, where they are given, analogies and similarities. Predictions are `Said`.
    """

    Options: ClassVar[type[DataOptions]] = WordOptions

    options: WordOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read documents (see `plait_nlp.documents.SUPPORTED`) and questions; a mapping of splits may also have
        "analogies" and "similarities", rows or paths.

        Raises:
            DataError: names files and lines and what to do.
        """
        if source is None:
            raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
        options, asked = self.options, {"analogies": self.options.analogies, "similarities": self.options.similarities}
        if isinstance(source, Mapping):
            asked |= {name: source[name] for name in _ASKED if name in source}
            source = {name: part for name, part in source.items() if name not in _ASKED}
        lower = options.lowercase if problem is None else bool(problem["lowercase"])
        questions: list[Question] = [
            *(analogies_of(asked["analogies"], lowercase=lower) if asked["analogies"] is not None else ()),
            *(similarities_of(asked["similarities"], lowercase=lower) if asked["similarities"] is not None else ()),
        ]
        found = read_documents(source, options=options, seed=self.seed, fixed=problem is not None)
        parts = {name: sentences_of(each, lowercase=lower) for name, each in found.parts.items()}
        train = parts.get("train", [each for part in parts.values() for each in part])
        counts = counts_of(train)
        if not counts:
            raise DataError("the training documents hold no words", hint="words are runs of letters and digits")
        splits: dict[str, Any] = {}
        for name, part in parts.items():
            if name == "train":
                splits[name] = Examples(part, (" ".join(map(" ".join, each.words)) for each in part))
                continue
            gaps = gaps_in(part, counts, most=options.gaps, window=options.gap_window, seed=self.seed)
            splits[name] = _asked([*gaps, *(questions if name == "test" else ())])
        if questions and "test" not in splits:
            splits["test"] = _asked(questions)
        splits = {name: part for name, part in splits.items() if len(part)}
        return Splits(**splits, fingerprint=found.fingerprint, index=found.index, notes=found.notes)

    def problem(self, splits: Splits) -> Problem:
        """{"objective": "word-embedding", "lowercase": ...}."""
        return {"objective": "word-embedding", "lowercase": self.options.lowercase}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return VectorsEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Question:
        """A question from the port `text`: a word, several, or a sum such as "king - man + woman".

        Raises:
            InputError: it is missing, empty, no text, or holds no word.
        """
        if set(inputs) != {"text"}:
            unknown = next((name for name in inputs if name != "text"), None)
            raise InputError(
                f"there is no input {unknown!r}" if unknown else "the input 'text' is missing",
                hint=did_you_mean(unknown, ["text"]) if unknown else None,
            )
        text = inputs["text"]
        if isinstance(text, Query | Gap | Analogy | Similarity):
            return text
        if not isinstance(text, str):
            raise InputError(f"text is {type(text).__name__}, not a text", hint="give a str")
        plus: list[str] = []
        minus: list[str] = []
        into = plus
        for part in text.replace(" + ", " \x00+ ").replace(" - ", " \x00- ").split("\x00"):
            into = minus if part.startswith("- ") else plus if part.startswith("+ ") else into
            into += words_in(part, lowercase=bool(problem["lowercase"]))
        if not plus and not minus:
            raise InputError("the text holds no word" if text.strip() else "the text is empty")
        return Query(tuple(plus), tuple(minus))

    def present(self, prediction: Said, problem: Problem) -> Prediction:
        """The nearest words, with their cosines as scores, and the vector (of length one) on the port `embedding`."""
        if isinstance(prediction.question, Query) and prediction.vector is None:
            listed = ", ".join(map(repr, prediction.unknown))
            more = f"; {prediction.hint}" if prediction.hint else ""
            return Prediction(error=f"no vector for {listed}: too rare in the training text, or not in it{more}")
        words = [word for word, _ in prediction.nearest]
        vector = np.zeros(0, np.float32) if prediction.vector is None else prediction.vector
        scores = {word: float(cosine) for word, cosine in prediction.nearest}
        if not words:  # a question of an evaluation
            scores = {str(number): score for number, score in enumerate(prediction.scores) if np.isfinite(score)}
        return Prediction(prediction=words, scores=scores, outputs={"embedding": vector})


def _asked(questions: Sequence[Question]) -> Examples:
    return Examples(questions, (repr(each) for each in questions))
