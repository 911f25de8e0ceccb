"""Which factors of users and items best tell what was chosen from what was not?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.model import IterativeModel, Model, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_recommendation.closed.matrices import binary
from plait_recommendation.closed.popularity import remembered
from plait_recommendation.closed.ridge import Block, Ridge, blocks
from plait_recommendation.ids import UNKNOWN, Codes, IdMap
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case
from plait_recommendation.ranking.queries import Memory
from plait_recommendation.ranking.recommending import recommend
from plait_recommendation.ranking.topk import Rankings


class IalsOptions(ModelOptions):
    """The recipe's `model` block of iALS."""

    factors: int = Field(default=64, ge=1)
    """Dimensions of the factors."""
    regularization: float = Field(default=0.01, gt=0)
    """Lambda; each user's and item's is scaled by its number of events and of those that it could have had."""
    unobserved_weight: float = Field(default=0.3, gt=0)
    """Alpha 0: how much a pair that did not occur counts beside one that did."""
    exponent: float = Field(default=1.0, ge=0, le=1)
    """Nu: 1 scales the regularisation by frequency, 0 not at all (Rendle 2021, equation 14)."""
    solver_steps: int = Field(default=3, ge=1)
    """Conjugate gradient steps of each row in an iteration; as many as factors are exact, and no better ranked."""


class Ials(IterativeModel):
    """Implicit alternating least squares with frequency-scaled regularisation (Hu 2008; "iALS revisited", Rendle 2021).

    Each iteration improves all users given the items, then all items given the users, by a few steps of conjugate
    gradients from where they are, so that the loss never rises. Only item factors are kept: a user's follow from any
    history by one solve (fold-in), which is also how new users, and new events of known ones, are served exactly and
    without a fit. `model.from` starts from another run's items, matched by id, so that a few iterations take in new
    interactions.
    """

    Options: ClassVar[type[ModelOptions]] = IalsOptions
    options: IalsOptions
    memory: Memory

    def __init__(self, *, options: Any, problem: Problem, seed: int = 0) -> None:
        self.options, self.problem = options, problem
        count = len(problem["items"])
        generator = torch.Generator().manual_seed(seed)
        self.items = torch.randn(count, options.factors, generator=generator) * (0.1 / options.factors**0.5)
        self._sides: tuple[list[Block], list[Block]] | None = None
        self._user_sizes = np.zeros(0, np.int64)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem, seed=seed)

    def start(self, data: Split, engine: Engine) -> State:
        self._take(data, engine)
        return State({"items": self.items, "users": torch.zeros(len(self.memory.histories), self.options.factors)})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        if self._sides is None:  # resumed
            self._take(data, engine)
        assert self._sides is not None
        (user_blocks, item_blocks), steps = self._sides, self.options.solver_steps
        users, _ = self._ridge(state.tensors["items"]).improve(user_blocks, state.tensors["users"], steps=steps)
        towards = self._ridge(users)
        items, loss = towards.improve(item_blocks, state.tensors["items"], steps=steps)
        sizes = torch.from_numpy(self._user_sizes).float()
        loss += float((self._ridge(items).penalty(sizes) * users.square().sum(dim=1)).sum(dtype=torch.float64))
        return State({"items": items, "users": users}), Progress({"loss": loss / max(1, int(sizes.sum()))})

    def finish(self, state: State) -> None:
        self.items = state.tensors["items"]

    def start_from(self, other: Model) -> list[str]:
        """Take the item factors of another iALS, matched by id."""
        if not isinstance(other, Ials) or other.options.factors != self.options.factors:
            raise TypeError(f"iALS starts from iALS with model.factors={self.options.factors}")
        theirs = IdMap.from_json(other.problem["items"])
        codes = np.array([theirs.code(each) for each in self.problem["items"]])
        known = torch.from_numpy(codes != UNKNOWN)
        self.items[known] = other.items[torch.from_numpy(codes[codes != UNKNOWN])]
        return [f"items that are new, and start at random: {int((~known).sum()):,} of {len(codes):,}"]

    def predict(self, examples: Sequence[Case]) -> Rankings:
        return recommend(self, examples, self.problem)

    def score(self, histories: Lists) -> Tensor:
        matrix = binary(histories, len(self.items))
        lists = Lists(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))
        found: Tensor = self._ridge(self.items).solve(lists) @ self.items.T
        return found

    def similar(self, items: Codes) -> Tensor:
        unit = torch.nn.functional.normalize(self.items, dim=1)
        found: Tensor = unit[torch.from_numpy(items.astype(np.int64))] @ unit.T
        return found

    def weigh(self, history: Codes, items: Codes) -> Tensor:
        return self._ridge(self.items).weigh(history, items)

    def save(self, directory: Path) -> None:
        save_tensors({"items": self.items}, directory / "model.safetensors")
        self.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model.items = load_tensors(directory / "model.safetensors")["items"]
        model.memory = Memory.load(directory)
        return model

    def _ridge(self, others: Tensor) -> Ridge:
        options = self.options
        return Ridge.of(others, options.unobserved_weight, options.regularization, options.exponent)

    def _take(self, data: Split, engine: Engine) -> None:
        self.memory = remembered(data, engine)
        matrix = binary(self.memory.histories, len(self.problem["items"]))
        sides = []
        for each in (matrix, matrix.T.tocsr()):
            lists = Lists(each.indptr.astype(np.int64), each.indices.astype(np.int32))
            sides.append(list(blocks(lists, count=each.shape[1], width=self.options.factors)))
        self._sides = sides[0], sides[1]
        self._user_sizes = np.diff(matrix.indptr)
