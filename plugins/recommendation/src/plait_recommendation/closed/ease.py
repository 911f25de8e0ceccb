"""Which item-to-item weights best give back what users chose, when no item may vote for itself?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_recommendation.closed.matrices import bag, binary, gram, require_memory
from plait_recommendation.closed.popularity import remembered
from plait_recommendation.ids import Codes
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case
from plait_recommendation.ranking.queries import Memory
from plait_recommendation.ranking.recommending import recommend
from plait_recommendation.ranking.topk import Rankings

_BYTES = 24  # for each pair of items: the Gram matrix (4), its factor and inverse in double precision (16), weights (4)


class EaseOptions(ModelOptions):
    """The recipe's `model` block of EASE."""

    regularization: float = Field(default=400.0, gt=0)
    """What is added to the diagonal of the Gram matrix (lambda): larger for fewer data, 200 to 1,000 as a rule."""


class Ease(IterativeModel):
    """EASE: a linear autoencoder with a zero diagonal, in closed form (Steck 2019, equations 6 to 8).

    Weights [items, items]; a score is the sum of the weights from the history's items. It knows no order and no user:
    any history is served (fold-in). Memory grows with the square of the catalogue, is estimated first, and refused.
    """

    Options: ClassVar[type[ModelOptions]] = EaseOptions
    options: EaseOptions
    memory: Memory

    def __init__(self, *, options: Any, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.weights = torch.zeros(0, 0)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        """Raises:
        DataError: the weights do not fit in memory.
        """
        items = len(problem["items"])
        require_memory(
            items * items * _BYTES, what=f"EASE on {items:,} items",
            hint="leave out rare items with data.min_item_events, or use recommendation/ials",
        )  # fmt: skip
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        self.memory = remembered(data, engine)
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        matrix = gram(binary(self.memory.histories, len(self.problem["items"]))).double()
        matrix.diagonal().add_(self.options.regularization)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        weights = (inverse / -inverse.diagonal()).float()
        weights.fill_diagonal_(0.0)
        return State({"weights": weights}), Progress({}, converged=True)

    def finish(self, state: State) -> None:
        self.weights = state.tensors["weights"]

    def predict(self, examples: Sequence[Case]) -> Rankings:
        return recommend(self, examples, self.problem)

    def score(self, histories: Lists) -> Tensor:
        return bag(self.weights, histories)

    def similar(self, items: Codes) -> Tensor:
        return self.weights[torch.from_numpy(items.astype("int64"))].clone()

    def weigh(self, history: Codes, items: Codes) -> Tensor:
        return self.weights[torch.from_numpy(history.astype("int64"))][:, torch.from_numpy(items.astype("int64"))].T

    def save(self, directory: Path) -> None:
        save_tensors({"weights": self.weights}, directory / "model.safetensors")
        self.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model.weights = load_tensors(directory / "model.safetensors")["weights"]
        model.memory = Memory.load(directory)
        return model
