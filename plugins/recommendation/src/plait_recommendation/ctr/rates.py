"""How far do the mere rates of clicks, of a user and of an item, say how probable a click is?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.model import Progress, State
from plait.options import ModelOptions
from plait.task import Split
from plait_recommendation.ids import Codes
from plait_recommendation.rating.estimates import RatingModel


class RateOptions(ModelOptions):
    """The recipe's `model` block."""

    damping: float = Field(default=10.0, gt=0)
    """Pairs of the expected rate that each user and item is taken to have had before."""


class ClickRates(RatingModel):
    """`recommendation/click-rates`: the overall rate's log odds, plus what an item's damped rate differs from it, plus
    what a user's differs from the rate of the items that this user met. Closed form: one step, no features.

    It is what a click model has to beat: it knows who clicks much and what is clicked much, and nothing about who
    clicks what.
    """

    Options: ClassVar[type[ModelOptions]] = RateOptions
    options: RateOptions

    def start(self, data: Split, engine: Engine) -> State:
        return State(self.facts(data, engine))

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        users, items, clicks = self.columns(data)
        rate = state.tensors["mean"].clamp(1e-6, 1 - 1e-6)  # of one class alone the odds would be infinite
        item_rates = torch.full((len(clicks),), float(rate), dtype=torch.float64)
        item_bias = self._odds(clicks, item_rates, items, len(self.items), engine)
        user_rates = torch.sigmoid(torch.logit(rate) + item_bias[torch.from_numpy(items.astype(np.int64))])
        user_bias = self._odds(clicks, user_rates, users, len(self.users), engine)
        fitted = {**state.tensors, "mean": torch.logit(rate), "user_bias": user_bias, "item_bias": item_bias}
        return State(fitted), Progress({}, converged=True)

    def estimates(self, users: Codes, items: Codes) -> npt.NDArray[np.float64]:
        """Probabilities, [pairs]."""
        found: npt.NDArray[np.float64] = 1 / (1 + np.exp(-self.biased(users, items)))
        return found

    def predict(self, examples: Sequence[Any]) -> list[float]:
        probabilities: list[float] = self.estimates(*self.codes(examples)).tolist()
        return probabilities

    def _odds(self, clicks: Tensor, expected: Tensor, codes: Codes, count: int, engine: Engine) -> Tensor:
        """How much the log odds of each code's clicks are above those expected, float64 [count]; zero for a code
        without pairs. So many pairs of the expected rate as `damping` says are counted beside."""
        index = torch.from_numpy(codes.astype(np.int64))

        def sums(values: Tensor) -> Tensor:
            found: Any = engine.reduce(torch.zeros(count, dtype=torch.float64).index_add_(0, index, values))
            total: Tensor = found
            return total

        sizes, damping = sums(torch.ones_like(clicks)), self.options.damping
        mean = sums(expected) / sizes.clamp_min(1)
        found = torch.logit((sums(clicks) + damping * mean) / (sizes + damping)) - torch.logit(mean)
        return torch.where(sizes > 0, found, 0.0)
