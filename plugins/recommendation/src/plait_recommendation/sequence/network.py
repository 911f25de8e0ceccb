"""What do all networks that tell the next item share: item vectors, losses and answers?"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from plait.errors import RecipeError
from plait.model import Batch, Model, NeuralModel, Output
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_recommendation.ids import Codes, require_same_ids
from plait_recommendation.ranking.cases import RankingTrain, no_user
from plait_recommendation.ranking.queries import Memory, Queries
from plait_recommendation.ranking.recommending import add_reasons
from plait_recommendation.ranking.topk import rank
from plait_recommendation.sequence.losses import (
    cross_entropy,
    generalised_binary_cross_entropy,
    sampled_cross_entropy,
)
from plait_recommendation.sequence.processor import NO_TARGET, Objective, SequenceProcessor

Loss = Literal["cross-entropy", "sampled", "gbce"]


class SequenceOptions(ModelOptions):
    """What the `model` blocks of the sequence networks share."""

    width: int = Field(default=64, ge=2)
    """Components of an item's vector."""
    length: int = Field(default=50, ge=2)
    """Items of a history that are seen: the last ones; training learns from all, in windows of this length."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Part of the activations that is dropped in training."""
    loss: Loss = "cross-entropy"
    """Over all items; over `negatives` sampled ones, corrected for it; or gBCE over them (Petrov and Macdonald 2023).
    Up to some ten thousand items the first is the best and costs little."""
    negatives: int = Field(default=256, ge=1)
    """Items that are drawn for each window where the loss samples."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """gBCE's t: 0 is binary cross-entropy, 1 scores as calibrated as the full cross-entropy's."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that is spread over all items, in training with the full cross-entropy."""


class SequenceModel(NeuralModel):
    """A network that tells the next item from the last ones, by the product of what it makes of them and each item's
    vector (one table for input and output). Subclasses know what happens between.

    A user is what they did: one whom training has not seen is answered by history like any other, and somebody without
    any history with what is popular. Items that training has not seen cannot be given. It knows no ids and no times.
    """

    Options: ClassVar[type[SequenceOptions]] = SequenceOptions
    ProcessorType = SequenceProcessor
    objective: ClassVar[Objective] = "next"

    options: SequenceOptions
    processor: SequenceProcessor
    popularity: Tensor

    def __init__(self, *, options: SequenceOptions, problem: Problem, processor: SequenceProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        counts = torch.tensor(problem["counts"], dtype=torch.float32)
        self.register_buffer("popularity", torch.log(counts + 1), persistent=False)
        self.items = nn.Embedding(processor.items + 2, options.width)  # and padding, and the mask
        self.bias = nn.Parameter(torch.zeros(processor.items))
        nn.init.normal_(self.items.weight, std=0.02)
        self.make_layers()

    @abstractmethod
    def make_layers(self) -> None:
        """Set the layers between items in and items out."""

    @abstractmethod
    def encode(self, items: Tensor) -> Tensor:
        """What is expected at each position, [batch, positions, width], from item codes [batch, positions], padded
        on the right."""

    @classmethod
    def fit_processor(
        cls, *, options: SequenceOptions, problem: Problem, train: Split | None, seed: int
    ) -> SequenceProcessor:
        return SequenceProcessor(
            items=len(problem["items"]),
            length=options.length,
            objective=cls.objective,
            negatives=0 if options.loss == "cross-entropy" else options.negatives,
            memory=Memory.of(train.interactions) if isinstance(train, RankingTrain) else None,
        )

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: SequenceOptions, problem: Problem, train: Split | None
    ) -> SequenceProcessor:
        """Everything anew: windows and memory are this recipe's and these data's.

        Raises:
            RecipeError: the earlier run knows other items.
        """
        made = cls.fit_processor(options=options, problem=problem, train=train, seed=0)
        if made.items != processor.items:
            raise RecipeError(
                f"model.from: that run knows {processor.items} items, these data have {made.items}",
                hint="train anew, or give it data with the same items",
            )
        return made

    def forward(self, batch: Batch) -> Output:
        """Of windows the loss; of cases also scores of all items, [batch, items]."""
        items = batch["items"]
        if not len(items):
            nothing = self.bias.sum() * 0.0 + self.encode(items.new_zeros(1, 1)).sum() * 0.0
            return Output(nothing, torch.zeros(0, self.processor.items, device=items.device) + nothing)
        if (targets := batch.get("targets")) is not None:
            hidden = self.encode(items)
            there = targets != NO_TARGET
            return Output(self._loss(hidden, targets, there, batch.get("negatives")), hidden)
        scores = self._scores(items, batch["lengths"], batch["like"])
        wanted = batch.get("wanted")
        return Output(None if wanted is None else cross_entropy(scores, wanted), scores)

    def _loss(self, hidden: Tensor, targets: Tensor, there: Tensor, negatives: Tensor | None) -> Tensor:
        """The mean over positions that have a target."""
        rows, wanted = hidden[there], targets[there]
        vectors, options = self.items.weight[: self.processor.items], self.options
        if negatives is None:
            smoothing = options.label_smoothing if self.training else 0.0
            return cross_entropy(F.linear(rows, vectors, self.bias), wanted, smoothing=smoothing)
        # items occur several times: an embedding's gradient is a sum in one order, that of an index is not
        biases = self.bias[:, None]
        positive = (rows * F.embedding(wanted, vectors)).sum(dim=1) + F.embedding(wanted, biases)[:, 0]
        drawn = F.embedding(negatives, vectors).transpose(1, 2)  # [batch, width, drawn]: for a whole window
        negative = (torch.bmm(hidden, drawn) + F.embedding(negatives, biases).transpose(1, 2))[there]
        hits = (negatives[:, None] == targets[:, :, None])[there]
        if options.loss == "sampled":
            return sampled_cross_entropy(positive, negative, hits, items=self.processor.items)
        return generalised_binary_cross_entropy(
            positive, negative, hits, items=self.processor.items, calibration=options.calibration
        )

    def _scores(self, items: Tensor, lengths: Tensor, like: Tensor) -> Tensor:
        """What is expected after each history; where there is none, what is popular; or what is like an item."""
        position = lengths if self.objective == "masked" else (lengths - 1).clamp(min=0)
        hidden = self.encode(items)[torch.arange(len(items), device=items.device), position]
        vectors = self.items.weight[: self.processor.items]
        scores = F.linear(hidden, vectors, self.bias).float()
        scores = torch.where((lengths == 0)[:, None], self.popularity, scores)
        if bool((like >= 0).any()):
            directions = F.normalize(vectors.float())
            scores = torch.where((like >= 0)[:, None], directions[like.clamp(min=0)] @ directions.T, scores)
        return scores

    def decode(self, output: Output, batch: Batch) -> Any:
        """The best items of each case, as many as the largest cutoff or as the case asks for."""
        if not batch.size:
            return []
        queries: Queries = batch.extra["queries"]
        answers = rank(output.logits.detach().clone(), queries, max(self.problem["cutoffs"]), explained=True)
        add_reasons(answers, queries, self.weigh)
        return answers

    def weigh(self, history: Codes, items: Codes) -> tuple[Codes, Tensor]:
        """How much each item of a history speaks for some items: by how many nats their log-probability is lower
        without it.

        Leaving out is what an answer would be if something had not happened, with any network; attention says where
        it looks, and little of what that changes (Jain and Wallace 2019).

        Args:
            history: codes in the order of time, one at least.

        Returns:
            The items of the history that are seen, each once, ascending [events]; and float32 [items, events].
        """
        events = np.unique(history[-self.processor.seen :])
        cases = [no_user(history), *(no_user(history[history != event]) for event in events)]
        batch = self.processor.collate(cases, [], training=False)
        rows, lengths, like = (batch[name].to(self.bias.device) for name in ("items", "lengths", "like"))
        scores = self._scores(rows, lengths, like)
        scores = torch.where((lengths == 0)[:, None], self.bias.float(), scores)  # nothing happened: no other history's
        found = scores.log_softmax(dim=1)[:, torch.from_numpy(items.astype(np.int64)).to(scores.device)]
        return events, (found[0] - found[1:]).T

    def save_assets(self, directory: Path) -> None:
        super().save_assets(directory)
        if self.processor.memory is not None:
            self.processor.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: SequenceOptions, problem: Problem) -> Self:
        model = super().load(directory, options=options, problem=problem)
        model.processor.memory = Memory.load(directory)
        return model

    def start_from(self, other: Model) -> list[str]:
        require_same_ids(self.problem, other.problem, "items")
        return super().start_from(other)
