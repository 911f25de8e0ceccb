"""How far do a mean and the biases of user and item explain a rating?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.model import Progress, State
from plait.task import Split
from plait_recommendation.ids import Codes
from plait_recommendation.rating.estimates import RatingModel, RatingOptions


class BiasOptions(RatingOptions):
    """The recipe's `model` block."""

    user_damping: float = Field(default=5.0, ge=0)
    """Ratings of the mean that each user is taken to have given before."""
    item_damping: float = Field(default=2.0, ge=0)
    """Ratings of the mean that each item is taken to have been given before."""


class Bias(RatingModel):
    """`recommendation/bias`: the mean, items' damped mean deviations from it, users' from both (Koren et al. 2009,
    Koren 2010 section 2.1). Closed form: one step."""

    Options = BiasOptions
    options: BiasOptions

    def start(self, data: Split, engine: Engine) -> State:
        return State(self.facts(data, engine))

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        users, items, ratings = self.columns(data)
        rest = ratings - state.tensors["mean"]
        item_bias = damped_means(rest, items, len(self.items), self.options.item_damping, engine)
        rest = rest - item_bias[torch.from_numpy(items.astype(np.int64))]
        user_bias = damped_means(rest, users, len(self.users), self.options.user_damping, engine)
        rest = rest - user_bias[torch.from_numpy(users.astype(np.int64))]
        squares = engine.reduce(torch.tensor([float(rest.square().sum()), float(len(rest))], dtype=torch.float64))
        fitted = {**state.tensors, "user_bias": user_bias, "item_bias": item_bias}
        return State(fitted), Progress({"rmse": float(squares[0] / squares[1]) ** 0.5}, converged=True)

    def estimates(self, users: Codes, items: Codes) -> npt.NDArray[np.float64]:
        return self.biased(users, items)


def damped_means(values: Tensor, codes: Codes, count: int, damping: float, engine: Engine) -> Tensor:
    """sum of each code's values / (number of them + damping), float64 [count]; zero for a code without values."""
    index = torch.from_numpy(codes.astype(np.int64))
    sums: Any = engine.reduce(torch.zeros(count, dtype=torch.float64).index_add_(0, index, values))
    sizes: Any = engine.reduce(torch.bincount(index, minlength=count).double())
    means: Tensor = sums / (sizes + damping).clamp_min(1e-12)
    return means
