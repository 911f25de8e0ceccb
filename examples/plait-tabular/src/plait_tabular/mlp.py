"""How is a row classified by a network?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from plait.evaluation import ClassPrediction
from plait.model import Batch, NeuralModel, Output
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_tabular.encoding import RowEncoder


class MlpOptions(ModelOptions):
    """The recipe's `model` block."""

    hidden: tuple[int, ...] = (32, 32)
    """Units of each hidden layer; none: logistic regression."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Part of the hidden units that each training step leaves out."""


class Mlp(NeuralModel):
    """Linear layers with ReLU and dropout between. It knows columns only through its encoder."""

    Options = MlpOptions
    ProcessorType = RowEncoder
    processor: RowEncoder

    def __init__(self, *, options: MlpOptions, problem: Problem, processor: RowEncoder) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        layers: list[nn.Module] = []
        sizes = (sum(processor.groups), *options.hidden)
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(options.dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], len(processor.labels))

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> RowEncoder:
        assert train is not None  # the task reads no data without training rows
        return RowEncoder.fit(problem, train)

    def forward(self, batch: Batch) -> Output:
        logits = self.head(self.body(batch["features"]))  # [batch, classes]
        target = batch.get("target")
        if target is None:
            return Output(None, logits)
        # the sum of no terms is zero, where their mean would be NaN: an idle rank runs an empty batch
        return Output(F.cross_entropy(logits, target, reduction="sum") / max(1, batch.count), logits)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        return [ClassPrediction(row) for row in torch.softmax(output.logits.float(), -1).cpu().numpy()]
