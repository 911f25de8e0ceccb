"""Which networks predict clicks, with which options?"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from plait.model import Batch, NeuralModel, Output, ParameterGroup
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_recommendation.ctr.encoding import PairEncoder
from plait_recommendation.ctr.fields import Numbers
from plait_recommendation.ctr.networks import DeepCross, DeepFm, Dlrm, FactorizationMachine, Linear
from plait_recommendation.pairs import Pairs


class ClickOptions(ModelOptions):
    """The recipe's `model` block, as far as every network on pairs has it."""

    min_count: int = Field(default=2, ge=1)
    """Ids and values that fewer training pairs have share one vector, "other", which new ones get later."""
    numbers: Numbers = "standard"
    """How numbers are read: standard (mean 0, deviation 1), log (log(1 + |x|) first), or buckets (16 equally full)."""
    columns: dict[str, Numbers] = Field(default_factory=dict)
    """The same for single columns: {"price": "log"}."""
    most_values: int = Field(default=32, ge=1)
    """Of a column of several values (genres), the first so many count."""


class VectorOptions(ClickOptions):
    """The recipe's `model` block of networks with a vector for each value."""

    dimension: int = Field(default=16, ge=1)
    """Numbers in the vector of each value."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Part of the vectors' numbers, and of the hidden units, that each training step leaves out."""


class DeepFmOptions(VectorOptions):
    """The recipe's `model` block."""

    hidden: tuple[int, ...] = (64, 32)
    """Units of each layer of the perceptron."""


class DeepCrossOptions(VectorOptions):
    """The recipe's `model` block."""

    cross_layers: int = Field(default=2, ge=1)
    """Layers of the cross network; with n of them, products of up to n + 1 values are made."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of each cross layer's matrix; None: full."""
    hidden: tuple[int, ...] = (64, 32)
    """Units of each layer of the perceptron."""
    structure: str = Field(default="parallel", pattern="^(parallel|stacked)$")
    """parallel: cross network beside perceptron; stacked: the perceptron reads what the cross network gives."""


class DlrmOptions(VectorOptions):
    """The recipe's `model` block."""

    bottom: tuple[int, ...] = (32,)
    """Units of each layer of the perceptron on numbers; a last one of `dimension` units follows."""
    hidden: tuple[int, ...] = (64, 32)
    """Units of each layer of the perceptron on products."""


class ClickModel(NeuralModel):
    """A network from pairs to log odds, with its loss and its decoding. It does not know its layers.

    The loss is the log loss in nats. Embedding tables are plain parameters: any engine shards them.
    """

    Options: ClassVar[type[ModelOptions]] = ClickOptions
    ProcessorType = PairEncoder
    processor: PairEncoder

    def __init__(self, *, options: Any, problem: Problem, processor: PairEncoder) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.network = self.make_network(options, processor)

    @classmethod
    @abstractmethod
    def make_network(cls, options: Any, encoder: PairEncoder) -> nn.Module:
        """Layers from a batch to log odds [batch]."""

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> PairEncoder:
        assert isinstance(train, Pairs)  # the task reads no data without training pairs
        return PairEncoder.fit(
            train, min_count=options.min_count, numbers=options.numbers, columns=options.columns,
            most_values=options.most_values,
        )  # fmt: skip

    def forward(self, batch: Batch) -> Output:
        logits = self.network(batch)
        target = batch.get("target")
        if target is None:
            return Output(None, logits)
        # the sum of no terms is zero, where their mean would be NaN: an idle rank runs an empty batch
        loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum") / max(1, batch.count)
        return Output(loss, logits)

    def decode(self, output: Output, batch: Batch) -> list[float]:
        probabilities: list[float] = output.logits.double().sigmoid().tolist()
        return probabilities

    def parameter_groups(self) -> list[ParameterGroup]:
        """Everything decays but biases: a seldom value's vector and weight are held near zero, too."""
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        biases = tuple(name for name in names if name.endswith("bias"))
        groups = [
            ParameterGroup("decay", tuple(name for name in names if name not in biases)),
            ParameterGroup("no_decay", biases, decay=False),
        ]
        return [group for group in groups if group.parameters]


class LogisticRegressionModel(ClickModel):
    """`recommendation/logistic-regression`: a weight for each value, no interactions."""

    @classmethod
    def make_network(cls, options: ClickOptions, encoder: PairEncoder) -> nn.Module:
        return Linear(encoder)


class FactorizationMachineModel(ClickModel):
    """`recommendation/factorization-machine` (Rendle 2010)."""

    Options = VectorOptions

    @classmethod
    def make_network(cls, options: VectorOptions, encoder: PairEncoder) -> nn.Module:
        return FactorizationMachine(encoder, dimension=options.dimension, dropout=options.dropout)


class DeepFmModel(ClickModel):
    """`recommendation/deepfm` (Guo et al. 2017)."""

    Options = DeepFmOptions

    @classmethod
    def make_network(cls, options: DeepFmOptions, encoder: PairEncoder) -> nn.Module:
        return DeepFm(encoder, dimension=options.dimension, hidden=options.hidden, dropout=options.dropout)


class DeepCrossModel(ClickModel):
    """`recommendation/dcn-v2` (Wang et al. 2021)."""

    Options = DeepCrossOptions

    @classmethod
    def make_network(cls, options: DeepCrossOptions, encoder: PairEncoder) -> nn.Module:
        return DeepCross(
            encoder, dimension=options.dimension, layers=options.cross_layers, rank=options.rank,
            hidden=options.hidden, stacked=options.structure == "stacked", dropout=options.dropout,
        )  # fmt: skip


class DlrmModel(ClickModel):
    """`recommendation/dlrm` (Naumov et al. 2019)."""

    Options = DlrmOptions

    @classmethod
    def make_network(cls, options: DlrmOptions, encoder: PairEncoder) -> nn.Module:
        return Dlrm(
            encoder, dimension=options.dimension, bottom=options.bottom, hidden=options.hidden, dropout=options.dropout
        )


__all__ = [
    "ClickModel", "DeepCrossModel", "DeepFmModel", "DlrmModel", "FactorizationMachineModel", "LogisticRegressionModel",
]  # fmt: skip
