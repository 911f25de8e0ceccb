"""What is fitted: the mean of every class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from plait.engine.base import Engine
from plait.evaluation import ClassPrediction
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors

from .task import Row


class NearestMeanOptions(ModelOptions):
    """The recipe's `model` block."""

    scale: bool = True
    """Divide every column by its standard deviation first, so that units do not matter."""


class NearestMean(IterativeModel):
    """The class whose mean is nearest. A closed form is one step; EM would take several.

    It knows no file, loop or rank: `start` and `step` see this process's part of the data, `engine.reduce` adds up.
    """

    Options: ClassVar[type[ModelOptions]] = NearestMeanOptions

    def __init__(self, options: NearestMeanOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self._scale = options.scale
        self.fitted: dict[str, torch.Tensor] = {}  # "means" [classes, columns], "deviation" [columns]

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options, problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        labels, columns = self.problem["labels"], self.problem["columns"]
        values = self._matrix([data[index] for index in range(len(data))])
        classes = torch.tensor([labels.index(data[index].label) for index in range(len(data))], dtype=torch.int64)
        chosen = torch.nn.functional.one_hot(classes, len(labels)).double()  # [rows, classes]
        sums = engine.reduce(chosen.T @ values)
        counts = engine.reduce(chosen.sum(0))
        squares = engine.reduce((values**2).sum(0))
        total = counts.sum()
        variance = squares / total - (sums.sum(0) / total) ** 2
        deviation = variance.clamp(min=0).sqrt() if self._scale else torch.ones(len(columns), dtype=torch.float64)
        deviation[deviation == 0] = 1.0  # a constant column says nothing, and must not divide by zero
        means = sums / counts[:, None].clamp(min=1)
        return State({"means": means, "deviation": deviation}), Progress({"rows": float(total)}, converged=True)

    def finish(self, state: State) -> None:
        self.fitted = dict(state.tensors)

    def predict(self, examples: Sequence[Row]) -> list[ClassPrediction]:
        deviation = self.fitted["deviation"]
        distances = torch.cdist(self._matrix(examples) / deviation, self.fitted["means"] / deviation)
        scores = (-0.5 * distances**2).softmax(dim=1).numpy()
        return [ClassPrediction(np.asarray(row)) for row in scores]

    def save(self, directory: Path) -> None:
        save_tensors(self.fitted, directory / "model.safetensors")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        model = cls(options, problem)
        model.fitted = load_tensors(directory / "model.safetensors")
        return model

    def _matrix(self, rows: Sequence[Row]) -> torch.Tensor:
        """[rows, columns], float64."""
        columns = self.problem["columns"]
        return torch.tensor([[row.values[name] for name in columns] for row in rows], dtype=torch.float64).reshape(
            len(rows), len(columns)
        )
