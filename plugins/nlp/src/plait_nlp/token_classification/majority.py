"""Which entities does a list of known words find: each word with the tag that it had most often?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.token_classification.examples import TagPrediction, TokenExample
from plait_nlp.token_classification.tags import as_iob2

_ASSETS, _WEIGHTS = "tags.json", "model.safetensors"


class MajorityOptions(ModelOptions):
    """The `model` block of nlp/majority-tag."""

    min_count: int = Field(default=1, ge=1)
    """How often a word must occur in training to have a tag other than O."""


class MajorityTag(IterativeModel):
    """The most frequent tag of each word in training, O for words that it lacks. It looks at no neighbour.

    What every tagger must beat; the tags' order is read leniently, as a lone I- begins an entity.
    """

    Options: ClassVar[type[MajorityOptions]] = MajorityOptions

    options: MajorityOptions

    def __init__(self, *, options: MajorityOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self._tags: dict[str, tuple[str, float]] = {}

    @classmethod
    def create(cls, *, options: MajorityOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        counts: dict[str, Counter[str]] = {}
        for index in range(len(data)):
            for word, tag in zip(data[index].words, data[index].tags or (), strict=True):
                counts.setdefault(word, Counter())[tag] += 1
        if engine.world_size > 1:
            counts = _joined(engine.gather(counts))
        tags = {word: _most_frequent(each) for word, each in sorted(counts.items())}
        kept = {
            word: found for word, found in tags.items() if found[0] != "O" and found[2] >= self.options.min_count
        }  # words that are O need no entry: it is what unknown words get
        parts = torch.tensor([part for _, part, _ in kept.values()], dtype=torch.float64)
        values = {"tags": {word: tag for word, (tag, _, _) in kept.items()}}
        return State({"parts": parts}, values), Progress({"words": float(len(kept))}, converged=True)

    def finish(self, state: State) -> None:
        parts = state.tensors["parts"].tolist()
        self._tags = {word: (tag, part) for (word, tag), part in zip(state.values["tags"].items(), parts, strict=True)}

    def predict(self, examples: Sequence[TokenExample]) -> list[TagPrediction]:
        found = []
        for example in examples:
            rows = [self._tags.get(word, ("O", 1.0)) for word in example.words]
            tags = as_iob2([tag for tag, _ in rows])
            found.append(TagPrediction(example, tags, np.array([part for _, part in rows])))
        return found

    def save(self, directory: Path) -> None:
        tags = {word: tag for word, (tag, _) in self._tags.items()}
        parts = torch.tensor([part for _, part in self._tags.values()], dtype=torch.float64)
        save_tensors({"parts": parts}, directory / _WEIGHTS)
        # words may hold lone surrogates, which UTF-8 cannot
        (directory / _ASSETS).write_text(json.dumps({"tags": tags}, ensure_ascii=True), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: MajorityOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        values = json.loads((directory / _ASSETS).read_text(encoding="utf-8"))
        model.finish(State(load_tensors(directory / _WEIGHTS), values))
        return model


def _most_frequent(counts: Mapping[str, int]) -> tuple[str, float, int]:
    """The tag, its part of the word's occurrences, and their number; of equals the first in the alphabet."""
    tag = min(counts, key=lambda each: (-counts[each], each))
    total = sum(counts.values())
    return tag, counts[tag] / total, total


def _joined(parts: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for part in parts:
        for word, tags in part.items():
            counts.setdefault(word, Counter()).update(tags)
    return counts
