"""How likely is a row under each of several naive Bayes components, and which parameters fit best?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from plait.engine.base import Engine

PRIOR = 1.0  # rows that each component is taken to have seen before: keeps variances and frequencies off zero
SPREAD = 0.1  # the variance of the numbers of those rows; all training rows together have variance 1


@dataclass(frozen=True, slots=True)
class Densities:
    """Components: a Gaussian with diagonal covariance over numbers, and frequencies of each column of texts.

    Args:
        weight: log of each component's share of all rows, [components].
        mean, variance: of each number, [components, numbers].
        frequency: log frequencies of texts, [components, texts]; each column's sum to one.
    """

    weight: Tensor
    mean: Tensor
    variance: Tensor
    frequency: Tensor

    @classmethod
    def fit(cls, features: Tensor, shares: Tensor, groups: Sequence[int], engine: Engine) -> Self:
        """The parameters of highest posterior density (the M step).

        Args:
            features: of this rank's rows, float64 [rows, features].
            shares: how far each row belongs to each component, [rows, components].
            groups: sizes of the feature groups, the numbers first.
        """
        numbers = groups[0]
        count = engine.reduce(shares.sum(0))  # [components]
        sums = engine.reduce(shares.T @ features)  # [components, features]
        squares = engine.reduce(shares.T @ features[:, :numbers] ** 2)
        weight = torch.log((count + PRIOR) / (count + PRIOR).sum())
        mean = sums[:, :numbers] / count.clamp_min(1e-10)[:, None]
        scatter = (squares - count[:, None] * mean**2).clamp_min(0)
        variance = (scatter + PRIOR * SPREAD) / (count[:, None] + PRIOR)
        texts = sums[:, numbers:] + PRIOR
        columns = [each / each.sum(1, keepdim=True) for each in torch.split(texts, list(groups[1:]), 1)]
        return cls(weight, mean, variance, torch.cat([texts[:, :0], *columns], 1).log())

    def joint(self, features: Tensor) -> Tensor:
        """Log density of each row together with each component, nats, [rows, components]."""
        numbers, texts = features[:, : self.mean.shape[1]], features[:, self.mean.shape[1] :]
        distance = (numbers[:, None] - self.mean) ** 2 / self.variance + torch.log(2 * math.pi * self.variance)
        return self.weight - distance.sum(2) / 2 + texts @ self.frequency.T

    def prior(self) -> float:
        """Log density of the parameters, nats, up to a constant: what `fit` maximises beside the likelihood."""
        spread = -(torch.log(self.variance) + SPREAD / self.variance).sum() / 2
        return PRIOR * float(self.weight.sum() + spread + self.frequency.sum())

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name; `Densities(**tensors)` is the same again."""
        return {"weight": self.weight, "mean": self.mean, "variance": self.variance, "frequency": self.frequency}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(**{name: tensors[name] for name in ("weight", "mean", "variance", "frequency")})
