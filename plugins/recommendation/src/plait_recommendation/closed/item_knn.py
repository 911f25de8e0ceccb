"""Which items are chosen by the same users?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_recommendation.closed.matrices import binary, require_memory
from plait_recommendation.closed.popularity import remembered
from plait_recommendation.ids import Codes
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case
from plait_recommendation.ranking.queries import Memory
from plait_recommendation.ranking.recommending import recommend
from plait_recommendation.ranking.topk import Rankings, top_k

_CELLS = 32_000_000  # similarities held at once: 128 MB


class ItemKnnOptions(ModelOptions):
    """The recipe's `model` block of item-kNN."""

    neighbours: int = Field(default=100, ge=1)
    """The most similar items that each item keeps."""
    shrinkage: float = Field(default=10.0, ge=0)
    """Added to the denominator of the cosine: how many common users a similarity needs before it is believed."""


class ItemKnn(IterativeModel):
    """Neighbourhoods of items: cosine of the users in common, shrunk towards zero where there are few (Sarwar 2001;
    shrinkage as in Bell and Koren 2007). A score is the sum of similarities to the history's items.

    It knows no order and no user: any history is served. Memory is items x neighbours, estimated first, and refused.
    """

    Options: ClassVar[type[ModelOptions]] = ItemKnnOptions
    options: ItemKnnOptions
    memory: Memory

    def __init__(self, *, options: Any, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.weights = sparse.csr_matrix((0, 0), dtype=np.float32)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        """Raises:
        DataError: the neighbourhoods do not fit in memory.
        """
        items = len(problem["items"])
        kept = min(options.neighbours, items)
        needed = items * kept * 24 + 4 * max(_CELLS, items)  # codes and similarities as found and as kept, one block
        require_memory(needed, what=f"item-kNN with {kept:,} neighbours of {items:,} items",
                       hint="lower model.neighbours, or leave out rare items with data.min_item_events")  # fmt: skip
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        self.memory = remembered(data, engine)
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        count = len(self.problem["items"])
        users = binary(self.memory.histories, count)
        columns = users.T.tocsr()
        sizes = np.sqrt(np.asarray(users.sum(axis=0), np.float64).reshape(-1))
        kept = min(self.options.neighbours, count - 1)
        codes, values = [], []
        for first in range(0, count, max(1, _CELLS // count)):
            last = min(count, first + max(1, _CELLS // count))
            common = (columns[first:last] @ users).toarray()
            alike = torch.from_numpy(common / (np.outer(sizes[first:last], sizes) + self.options.shrinkage + 1e-12))
            alike[torch.arange(last - first), torch.arange(first, last)] = 0.0
            best, found = top_k(alike.float(), kept)
            codes.append(found.to(torch.int32))
            values.append(best)
        return State({"codes": torch.cat(codes), "values": torch.cat(values)}), Progress({}, converged=True)

    def finish(self, state: State) -> None:
        codes, values = state.tensors["codes"], state.tensors["values"]
        indptr = np.arange(len(codes) + 1, dtype=np.int64) * codes.shape[1]
        shape = (len(codes), len(codes))
        neighbours = sparse.csr_matrix((values.reshape(-1).numpy(), codes.reshape(-1).numpy(), indptr), shape=shape)
        self.codes, self.values = codes, values
        self.weights = neighbours.T.tocsr()  # from an item of the history to those that have it as a neighbour
        self.weights.eliminate_zeros()

    def predict(self, examples: Sequence[Case]) -> Rankings:
        return recommend(self, examples, self.problem)

    def score(self, histories: Lists) -> Tensor:
        return torch.from_numpy((binary(histories, self.weights.shape[0]) @ self.weights).toarray())

    def similar(self, items: Codes) -> Tensor:
        found = torch.zeros(len(items), len(self.codes))
        rows = torch.from_numpy(items.astype(np.int64))
        return found.scatter_(1, self.codes[rows].long(), self.values[rows])

    def weigh(self, history: Codes, items: Codes) -> Tensor:
        return torch.from_numpy(self.weights[history][:, items].toarray().T)

    def save(self, directory: Path) -> None:
        save_tensors({"codes": self.codes, "values": self.values}, directory / "model.safetensors")
        self.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model.finish(State(load_tensors(directory / "model.safetensors")))
        model.memory = Memory.load(directory)
        return model
