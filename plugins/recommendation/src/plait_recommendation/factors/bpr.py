"""What is the plain factor model: a vector for each user and item, and nothing else?"""

from __future__ import annotations

import torch
from torch import nn

from plait.task import Problem
from plait_recommendation.factors.network import FactorModel, FactorOptions, Vectors
from plait_recommendation.factors.processor import FactorProcessor


class BprMf(FactorModel):
    """Matrix factorization by Bayesian personalised ranking (Rendle et al. 2009): the product of two vectors and an
    item's bias, fitted pairwise."""

    def __init__(self, *, options: FactorOptions, problem: Problem, processor: FactorProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.bias = nn.Parameter(torch.zeros(len(problem["items"])))

    def vectors(self) -> Vectors:
        return Vectors(self.users.weight, self.items.weight, self.bias)
