"""Which sentence of a context shares most with the question, weighted by how rare its words are?"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import AFTERWARDS, ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.question_answering.examples import Answer, AnswerPrediction, Candidate, Question

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"\S.*?(?:[.!?。！？]['\"”’)\]]*(?=\s|$)|[。！？]|\n|$)", re.DOTALL)
_CANDIDATES = 5
_ASSETS, _WEIGHTS = "words.json", "model.safetensors"


class OverlapOptions(ModelOptions):
    """The `model` block of nlp/sentence-overlap."""

    answer: Literal["words", "sentence", "first"] = Field(default="words", json_schema_extra=AFTERWARDS)
    """What is answered: the words of the best sentence that the question lacks and that are rarest, the whole best
    sentence, or the context's first sentence, whatever is asked."""
    longest: int = Field(default=3, ge=1, json_schema_extra=AFTERWARDS)
    """Words of an answer at most, where it is words."""


class SentenceOverlap(IterativeModel):
    """The sentence with the largest sum of idf over the words that it shares with the question, by the square root of
    its own sum; in it, perhaps, a run of words. What a reader must beat; it never says that there is no answer.

    Fitted in one step: in how many contexts each word is.
    """

    Options: ClassVar[type[OverlapOptions]] = OverlapOptions

    options: OverlapOptions

    def __init__(self, *, options: OverlapOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self._idf: dict[str, float] = {}
        self._rarest = 1.0

    @classmethod
    def create(cls, *, options: OverlapOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        contexts = sorted({data[index].context for index in range(len(data))})
        if engine.world_size > 1:
            contexts = sorted({each for part in engine.gather(contexts) for each in part})
        counts: Counter[str] = Counter()
        for context in contexts:
            counts.update({word for word, _, _ in _words(context)})
        words = sorted(counts)
        total = len(contexts)
        idf = torch.tensor([math.log((1 + total) / (1 + counts[word])) + 1 for word in words], dtype=torch.float64)
        rarest = torch.tensor([math.log(1 + total) + 1], dtype=torch.float64)  # of a word that no context has
        values = {"words": words}
        return State({"idf": idf, "rarest": rarest}, values), Progress({"contexts": float(total)}, converged=True)

    def finish(self, state: State) -> None:
        self._idf = dict(zip(state.values["words"], state.tensors["idf"].tolist(), strict=True))
        self._rarest = float(state.tensors["rarest"])

    def predict(self, examples: Sequence[Question]) -> list[AnswerPrediction]:
        return [self._answer(each) for each in examples]

    def _weight(self, word: str) -> float:
        return self._idf.get(word, self._rarest)

    def _answer(self, example: Question) -> AnswerPrediction:
        asked = {word for word, _, _ in _words(example.question)}
        sentences = list(sentences_of(example.context))
        if self.options.answer == "first" or not sentences:
            whole = sentences[0] if sentences else (0, len(example.context))
            return _predicted(example.context, [(*whole, 1.0)])
        scores = []
        for start, end in sentences:
            own = {word for word, _, _ in _words(example.context[start:end])}
            shared = sum(self._weight(word) for word in own & asked)
            scores.append(shared / math.sqrt(sum(map(self._weight, own)) or 1.0))
        order = np.argsort(-np.array(scores), kind="stable")[:_CANDIDATES].tolist()
        found = []
        for index in order:
            start, end = sentences[index]
            if self.options.answer == "words":
                start, end = self._run(example.context, start, end, asked)
            found.append((start, end, scores[index]))
        return _predicted(example.context, found)

    def _run(self, context: str, start: int, end: int, asked: set[str]) -> tuple[int, int]:
        """The run of words, none of them asked, with the largest sum of idf above the mean word's; the whole sentence
        where there is none."""
        words = [(word, start + first, start + last) for word, first, last in _words(context[start:end])]
        if not words:
            return start, end
        weights = np.array([-math.inf if word in asked else self._weight(word) for word, _, _ in words])
        level = float(np.mean([self._weight(word) for word, _, _ in words]))
        best, chosen = -math.inf, None
        for first in range(len(words)):
            gained = 0.0
            for last in range(first, min(first + self.options.longest, len(words))):
                gained += weights[last] - level
                if gained > best:
                    best, chosen = gained, (first, last)
        return (start, end) if chosen is None else (words[chosen[0]][1], words[chosen[1]][2])

    def save(self, directory: Path) -> None:
        tensors = {
            "idf": torch.tensor(list(self._idf.values()), dtype=torch.float64),
            "rarest": torch.tensor([self._rarest], dtype=torch.float64),
        }
        save_tensors(tensors, directory / _WEIGHTS)
        # words may hold lone surrogates, which UTF-8 cannot
        (directory / _ASSETS).write_text(json.dumps({"words": list(self._idf)}, ensure_ascii=True), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: OverlapOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        values = json.loads((directory / _ASSETS).read_text(encoding="utf-8"))
        model.finish(State(load_tensors(directory / _WEIGHTS), values))
        return model


def sentences_of(text: str) -> Iterator[tuple[int, int]]:
    """The characters of each sentence: to a full stop, question or exclamation mark before a space, or the line's
    end."""
    for match in _SENTENCE.finditer(text):
        yield match.start(), match.start() + len(match.group().rstrip())


def _words(text: str) -> list[tuple[str, int, int]]:
    """The words of a text in lower case, and their characters."""
    return [(match.group().lower(), match.start(), match.end()) for match in _WORD.finditer(text)]


def _predicted(context: str, found: Sequence[tuple[int, int, float]]) -> AnswerPrediction:
    """A prediction from characters and scores, the best first; probabilities are shares of the scores."""
    total = sum(score for _, _, score in found)
    candidates = [
        Candidate(Answer(start, context[start:end]), score, score / total if total else 1 / len(found))
        for start, end, score in found
    ]
    return AnswerPrediction(candidates, True)
