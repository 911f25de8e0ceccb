"""What do a user's items say of them, and those items' users, and their items in turn?"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from plait.task import Problem
from plait_recommendation.closed.matrices import binary
from plait_recommendation.factors.network import FactorModel, FactorOptions, Vectors
from plait_recommendation.factors.processor import FactorProcessor
from plait_recommendation.interactions import Lists


class LightGcnOptions(FactorOptions):
    """The `model` block of recommendation/lightgcn."""

    layers: int = Field(default=3, ge=1)
    """How far vectors spread over the graph: 1 is from a user's items, 2 from the other users of these, and so on."""


class LightGcn(FactorModel):
    """LightGCN (He et al. 2020): a user's vector is the mean over layers of what spreads over the graph of users and
    items, symmetrically normalised; only the vectors of layer 0 are parameters.

    The graph is that of the training events, each distinct one once. Every step spreads all vectors, so that a large
    batch costs little more than a small one.
    """

    Options: ClassVar[type[LightGcnOptions]] = LightGcnOptions

    options: LightGcnOptions
    no_bias: Tensor

    def __init__(self, *, options: LightGcnOptions, problem: Problem, processor: FactorProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.register_buffer("no_bias", torch.zeros(len(problem["items"])), persistent=False)
        self._graph: tuple[Tensor, Tensor] | None = None

    def vectors(self) -> Vectors:
        graph = self._spreading(self.items.weight.device)
        users, items = self.users.weight, self.items.weight
        all_users, all_items = users, items
        for _ in range(self.options.layers):
            users, items = _Spread.apply(items, *graph), _Spread.apply(users, *reversed(graph))
            all_users, all_items = all_users + users, all_items + items
        depth = self.options.layers + 1
        return Vectors(all_users / depth, all_items / depth, self.no_bias)

    def _spreading(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The normalised adjacency [users, items] and its transpose, compressed by row; made once."""
        if self._graph is None or self._graph[0].device != device:
            memory = self.processor.memory
            if memory is None:
                raise RuntimeError("the processor remembers no training events: units() or load() comes first")
            matrix = adjacency(memory.histories, len(self.problem["items"]))
            self._graph = (_sparse(matrix).to(device), _sparse(matrix.T.tocsr()).to(device))
        return self._graph


def adjacency(histories: Lists, items: int) -> Any:
    """1 / sqrt(items of the user * users of the item) for each distinct event, a scipy CSR matrix [users, items]."""
    matrix = binary(histories, items)
    of_user, of_item = np.diff(matrix.indptr), np.bincount(matrix.indices, minlength=items)
    matrix.data /= np.sqrt(np.repeat(of_user, of_user) * of_item[matrix.indices])
    return matrix


def _sparse(matrix: Any) -> Tensor:
    starts, columns = (torch.from_numpy(each.astype(np.int64)) for each in (matrix.indptr, matrix.indices))
    values, shape = torch.from_numpy(matrix.data), list(matrix.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")  # a product is all that is asked
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=True)


class _Spread(torch.autograd.Function):
    """The product of a constant sparse matrix and vectors. Its gradient is the product with the transpose, which is at
    hand by row; autograd would transpose the matrix at every step."""

    @staticmethod
    def forward(context: Any, vectors: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        context.transposed = transposed
        return matrix @ vectors

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return context.transposed @ gradient, None, None
