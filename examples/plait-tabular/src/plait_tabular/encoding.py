"""How does a row become numbers?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from plait.model import Batch, Key, Processor
from plait.task import Problem, Split
from plait_tabular.rows import Row


@dataclass(frozen=True, slots=True)
class RowEncoder(Processor):
    """Standardised numbers, then one-hot texts; a text that training never saw is a vector of zeros.

    Args:
        labels: class names, in the order of a model's outputs.
        numbers: mean and standard deviation of each column of numbers.
        texts: the texts that training saw in each column of texts.
    """

    labels: tuple[str, ...]
    numbers: Mapping[str, tuple[float, float]]
    texts: Mapping[str, tuple[str, ...]]

    @classmethod
    def fit(cls, problem: Problem, train: Split) -> RowEncoder:
        rows = [train[index].values for index in range(len(train))]
        numbers, texts = {}, {}
        for name, kind in problem["columns"].items():
            cells = [row[name] for row in rows]
            if kind == "number":
                spread = float(np.std(cells))
                numbers[name] = (float(np.mean(cells)), spread or 1.0)  # a constant column becomes zeros
            else:
                texts[name] = tuple(sorted(set(cells)))
        return cls(tuple(problem["labels"]), numbers, texts)

    @property
    def groups(self) -> tuple[int, ...]:
        """The sizes of the feature groups: the numbers together, then each column of texts."""
        return (len(self.numbers), *map(len, self.texts.values()))

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """Features of rows, float32 [rows, features]."""
        features = np.zeros((len(rows), sum(self.groups)), np.float32)
        for index, row in enumerate(rows):
            at = 0
            for name, (mean, spread) in self.numbers.items():
                features[index, at] = (float(row.values[name]) - mean) / spread
                at += 1
            for name, known in self.texts.items():
                if row.values[name] in known:
                    features[index, at + known.index(str(row.values[name]))] = 1
                at += len(known)
        return torch.from_numpy(features)

    def targets(self, rows: Sequence[Row]) -> Tensor:
        """Class positions of labelled rows, int64 [rows]."""
        return torch.tensor([self.labels.index(str(row.label)) for row in rows], dtype=torch.int64)

    def collate(self, examples: Sequence[Row], keys: Sequence[Key], *, training: bool) -> Batch:
        tensors = {"features": self.encode(examples)}
        if all(row.label is not None for row in examples):
            tensors["target"] = self.targets(examples)
        return Batch(tensors, count=len(examples), size=len(examples))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        numbers = {name: (mean, spread) for name, (mean, spread) in state["numbers"].items()}
        return cls(tuple(state["labels"]), numbers, {name: tuple(known) for name, known in state["texts"].items()})
