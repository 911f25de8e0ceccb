"""How well do a text's n-grams alone tell its target? The baseline that every report prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.examples import TextExample
from plait_nlp.text_classification.fitting import Linear, fit_linear, log_ratios, predictions_of, targets_of
from plait_nlp.text_classification.ngrams import NGrams


class LinearOptions(ModelOptions):
    """The `model` block of nlp/linear."""

    weighting: Literal["auto", "naive-bayes", "tfidf"] = "auto"
    """What n-grams weigh before they are fitted: how much likelier they are in a class (Wang and Manning 2012), or
    tf-idf. auto: naive-bayes, and tfidf for numbers."""
    unit: Literal["word", "character"] = "word"
    """What n-grams are made of; characters suit short texts and many languages."""
    shortest: int = Field(default=1, ge=1, le=8)
    """Words or characters of the shortest n-gram."""
    longest: int = Field(default=2, ge=1, le=8)
    """Of the longest."""
    lowercase: bool = True
    """Whether case is dropped."""
    min_count: int = Field(default=1, ge=1)
    """Texts that an n-gram must be in."""
    features: int = Field(default=200_000, ge=1)
    """N-grams at most: those in most texts."""
    strength: float = Field(default=0.3, gt=0)  # the best of 0.05 to 10 on the development part of SST-2: 0.810
    """The inverse of the penalty on weights: smaller is smoother (scikit-learn's C)."""


class LinearModel(IterativeModel):
    """Softmax, logistic or ridge regression on n-grams, in one step. It knows no network."""

    Options: ClassVar[type[LinearOptions]] = LinearOptions

    options: LinearOptions

    def __init__(self, *, options: LinearOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self._ngrams: NGrams | None = None
        self._linear: Linear | None = None

    @classmethod
    def create(cls, *, options: LinearOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        options, kind = self.options, self.problem["target"]
        examples = _everywhere(data, engine)
        bayes = options.weighting == "naive-bayes" or (options.weighting == "auto" and kind != "number")
        ngrams = NGrams.fit(
            examples, unit=options.unit, lengths=(options.shortest, max(options.shortest, options.longest)),
            lowercase=options.lowercase, weighting="binary" if bayes else "tfidf", min_count=options.min_count,
            most=options.features,
        )  # fmt: skip
        features, targets = ngrams.matrix(examples), targets_of(examples, self.problem)
        scale = log_ratios(features, targets) if bayes and kind != "number" else None
        linear, loss = fit_linear(features, targets, kind=kind, strength=options.strength, scale=scale)
        tensors = {"weights": linear.weights.astype(np.float32), "bias": linear.bias, "idf": ngrams.idf}
        found = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in tensors.items()}
        return State(found, {"ngrams": ngrams.as_json()}), Progress({"loss": loss}, converged=True)

    def finish(self, state: State) -> None:
        tensors = {name: tensor.numpy().astype(np.float64) for name, tensor in state.tensors.items()}
        self._ngrams = NGrams.from_json(state.values["ngrams"], tensors["idf"])
        self._linear = Linear(tensors["weights"], tensors["bias"])

    def predict(self, examples: Sequence[TextExample]) -> list[Any]:
        assert self._ngrams is not None  # a model that is not fitted yet
        assert self._linear is not None
        return predictions_of(self._linear.outputs(self._ngrams.matrix(examples)), self.problem)

    def save(self, directory: Path) -> None:
        assert self._ngrams is not None  # only fitted models are saved
        assert self._linear is not None
        arrays = {
            "weights": self._linear.weights.astype(np.float32),
            "bias": self._linear.bias,
            "idf": self._ngrams.idf,
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in arrays.items()}
        save_tensors(tensors, directory / "model.safetensors")
        text = json.dumps(self._ngrams.as_json(), ensure_ascii=True)  # n-grams may hold lone surrogates
        (directory / "ngrams.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: LinearOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        values = {"ngrams": json.loads((directory / "ngrams.json").read_text(encoding="utf-8"))}
        model.finish(State(load_tensors(directory / "model.safetensors"), values))
        return model


def _everywhere(data: Split, engine: Engine) -> list[TextExample]:
    """The examples of all ranks, on every rank: n-grams are counted over all of them."""
    own = [data[index] for index in range(len(data))]
    if engine.world_size == 1:
        return own
    parts = engine.gather([[each.text, each.pair, each.label] for each in own])
    rows = [row for part in parts for row in part]
    return [TextExample(text, pair, tuple(label) if isinstance(label, list) else label) for text, pair, label in rows]
