"""How well are hidden words told by how frequent they are, without a look at what is around them?"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import AFTERWARDS, ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.masked_modelling.passages import Passage
from plait_nlp.masked_modelling.predictions import Filled, MaskedPrediction

_WORD = re.compile(r"\w+")
_SYMBOLS = 257  # bytes, and the end of a word


class UnigramOptions(ModelOptions):
    """The `model` block of nlp/unigram."""

    top: int = Field(default=5, ge=1, le=100, json_schema_extra=AFTERWARDS)
    """How many guesses of a hidden word are shown."""


class Unigram(IterativeModel):
    """The frequency of words in the training texts, counted in one step. It does not look around a hidden word.

    A word's probability is (its count + V s) / (N + V) for V different words among N, where s is the probability of
    spelling it: the product of the frequencies of its bytes and of the end among the different words, each counted
    once more (Witten and Bell 1991, method C, with the spelling below it). So it sums to one over all words there are.
    """

    Options: ClassVar[type[UnigramOptions]] = UnigramOptions

    options: UnigramOptions

    def __init__(self, *, options: UnigramOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.counts: Mapping[str, int] = {}
        self._total, self._letters = 0, torch.zeros(_SYMBOLS, dtype=torch.float64)

    @classmethod
    def create(cls, *, options: UnigramOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        own: Counter[str] = Counter()
        for index in range(len(data)):
            for sentence in data[index].sentences:
                own.update(_WORD.findall(sentence))
        counts: Counter[str] = Counter()
        for part in engine.gather(dict(own)):
            counts.update(part)
        words = sorted(counts, key=lambda word: (-counts[word], word))
        state = State({"counts": torch.tensor([counts[word] for word in words], dtype=torch.int64)}, {"words": words})
        return state, Progress({"words": float(counts.total()), "different": float(len(counts))}, converged=True)

    def finish(self, state: State) -> None:
        self.counts = dict(zip(state.values["words"], state.tensors["counts"].tolist(), strict=True))
        self._total = sum(self.counts.values())
        spelt = torch.tensor(_bytes("".join(self.counts)), dtype=torch.int64)
        seen = torch.bincount(spelt, minlength=_SYMBOLS).double() + 1
        seen[-1] += len(self.counts)
        self._letters = (seen / seen.sum()).log()

    def log_probability(self, word: str) -> float:
        """Of a word, in nats."""
        spelling = float(self._letters[_bytes(word)].sum() + self._letters[-1])
        different = len(self.counts)
        if not different:
            return spelling
        return math.log(self.counts.get(word, 0) + different * math.exp(spelling)) - math.log(self._total + different)

    def predict(self, examples: Sequence[Passage]) -> list[MaskedPrediction]:
        guesses = tuple((word, math.exp(self.log_probability(word))) for word in list(self.counts)[: self.options.top])
        follows = 0.5 if self.problem["next_sentence"] else None
        return [
            MaskedPrediction(
                each,
                tuple(self._filled(word, guesses) for word in each.answers or (None,) * len(each.spans)),
                follows if each.pair is not None else None,
            )
            for each in examples
        ]

    def _filled(self, word: str | None, guesses: tuple[tuple[str, float], ...]) -> Filled:
        if word is None:
            return Filled(guesses)
        return Filled(guesses, nats=-self.log_probability(word), right=int(bool(guesses) and guesses[0][0] == word))

    def save(self, directory: Path) -> None:
        counts = torch.tensor(list(self.counts.values()), dtype=torch.int64)
        save_tensors({"counts": counts}, directory / "model.safetensors")
        (directory / "words.json").write_text(json.dumps({"words": list(self.counts)}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: UnigramOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        values: dict[str, Any] = json.loads((directory / "words.json").read_text(encoding="utf-8"))
        model.finish(State(load_tensors(directory / "model.safetensors"), values))
        return model


def _bytes(word: str) -> list[int]:
    return list(word.encode("utf-8", "surrogatepass"))
