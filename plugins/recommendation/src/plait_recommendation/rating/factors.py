"""How are ratings explained by biases and a product of two vectors?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.model import Progress, State
from plait.task import Split
from plait_recommendation.ids import Codes
from plait_recommendation.rating.estimates import RatingModel, RatingOptions, rows_of
from plait_recommendation.rating.least_squares import RatingLists, solve

DEVIATION = 0.1  # of the vectors that a fit begins with


class FactorOptions(RatingOptions):
    """The recipe's `model` block."""

    dimension: int = Field(default=16, ge=1)
    """Numbers in each user's and item's vector."""
    penalty: float = Field(default=14.0, gt=0)
    """L2 penalty on vectors, times the ratings that a user or item has to the power `scaling`."""
    bias_penalty: float = Field(default=3.0, gt=0)
    """The same on biases."""
    scaling: float = Field(default=0.0, ge=0, le=1)
    """How penalties grow with the number of ratings: 0 not at all, 1 in proportion (Zhou et al. 2008)."""
    tolerance: float = Field(default=1e-4, gt=0)
    """The relative fall of the loss in a step below which the fit has converged."""


class BiasedFactors(RatingModel):
    """`recommendation/biased-mf`: mean + user's bias + item's bias + product of two vectors (Koren et al. 2009,
    equation 4), fitted by alternating least squares: each step solves all users given the items, then all items.

    The loss never rises: each half step is the exact minimum over one side.
    """

    Options = FactorOptions
    options: FactorOptions

    def start(self, data: Split, engine: Engine) -> State:
        generator = torch.Generator().manual_seed(self.seed)
        width = self.options.dimension

        def noise(count: int) -> Tensor:
            return DEVIATION * torch.randn((count, width), dtype=torch.float64, generator=generator)

        vectors = {"user_vectors": noise(len(self.users)), "item_vectors": noise(len(self.items))}
        return State(self.facts(data, engine) | vectors, {"loss": None})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        users, items, ratings = self.columns(data)
        found, centred = dict(state.tensors), ratings - state.tensors["mean"]
        sides = {
            "user": RatingLists(users, items, centred, count=len(self.users), engine=engine),
            "item": RatingLists(items, users, centred, count=len(self.items), engine=engine),
        }
        penalties = {side: self._penalty(lists.totals) for side, lists in sides.items()}
        for side, other in (("user", "item"), ("item", "user")):
            ones = torch.ones((len(found[f"{other}_vectors"]), 1), dtype=torch.float64)
            vectors = torch.cat([ones, found[f"{other}_vectors"]], dim=1)  # the bias is the first number of x
            solved = solve(sides[side], vectors, found[f"{other}_bias"], penalties[side], engine)
            found[f"{side}_bias"], found[f"{side}_vectors"] = solved[:, 0].clone(), solved[:, 1:].clone()
        squares, count = self._squares(users, items, centred, found, engine)
        penalty = sum(
            float((penalties[side][:, :1] * found[f"{side}_bias"][:, None].square()).sum())
            + float((penalties[side][:, 1:] * found[f"{side}_vectors"].square()).sum())
            for side in sides
        )
        loss, before = (squares + penalty) / count, state.values["loss"]
        converged = before is not None and before - loss < self.options.tolerance * before
        return State(found, {"loss": loss}), Progress({"loss": loss, "rmse": (squares / count) ** 0.5}, converged)

    def estimates(self, users: Codes, items: Codes) -> npt.NDArray[np.float64]:
        products = rows_of(self.fitted["user_vectors"], users) * rows_of(self.fitted["item_vectors"], items)
        total: npt.NDArray[np.float64] = self.biased(users, items) + products.sum(axis=1)
        return total

    def _penalty(self, totals: Tensor) -> Tensor:
        """Of each number of each row's bias and vector, [rows, 1 + dimension]."""
        scale = totals.clamp_min(1) ** self.options.scaling
        each = torch.full((1 + self.options.dimension,), self.options.penalty, dtype=torch.float64)
        each[0] = self.options.bias_penalty
        return scale[:, None] * each

    def _squares(
        self, users: Codes, items: Codes, centred: Tensor, found: dict[str, Tensor], engine: Engine
    ) -> tuple[float, float]:
        """The sum of squared errors, and the number of ratings, over all ranks; blocks keep memory small."""
        total = 0.0
        for first in range(0, len(centred), 1 << 18):
            block = slice(first, first + (1 << 18))
            u, i = (torch.from_numpy(codes[block].astype(np.int64)) for codes in (users, items))
            product = (found["user_vectors"][u] * found["item_vectors"][i]).sum(dim=1)
            total += float((centred[block] - found["user_bias"][u] - found["item_bias"][i] - product).square().sum())
        sums = engine.reduce(torch.tensor([total, float(len(centred))], dtype=torch.float64))
        return float(sums[0]), float(sums[1])
