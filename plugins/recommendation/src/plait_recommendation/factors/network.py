"""What do the factor models share: vectors, the pairwise loss and answers?"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from plait.model import Batch, Model, NeuralModel, Output
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_recommendation.factors.processor import FactorProcessor
from plait_recommendation.ids import require_same_ids
from plait_recommendation.ranking.cases import RankingTrain
from plait_recommendation.ranking.queries import Memory
from plait_recommendation.ranking.topk import rank


class FactorOptions(ModelOptions):
    """What the `model` blocks of the factor models share."""

    width: int = Field(default=64, ge=1)
    """Components of a vector."""
    negatives: int = Field(default=1, ge=1)
    """Items that are drawn for each interaction, uniformly from those that its user has not met. Of several, the one
    that the model likes best is the negative (dynamic negative sampling, Zhang et al. 2013)."""
    penalty: float = Field(default=1e-4, ge=0)
    """Half of it, times the squared norms of an interaction's three vectors, is added to the loss."""
    recent: int = Field(default=100, ge=1)
    """How many of the last items of a history stand for a user whom training has not seen."""


class Vectors(NamedTuple):
    """What scores are products of.

    Args:
        users, items: [users, width], [items, width].
        bias: of each item, [items].
    """

    users: Tensor
    items: Tensor
    bias: Tensor


class FactorModel(NeuralModel):
    """Vectors of users and items, fitted so that the product with an item that the user has met is larger than that
    with one that they have not (BPR, Rendle et al. 2009). Subclasses know how vectors come from parameters.

    A user whom training has not seen gets the mean of the vectors of the last items of their history, scaled to the
    usual length of a user's; somebody without any history what is popular. It knows no order of events.
    """

    Options: ClassVar[type[FactorOptions]] = FactorOptions
    ProcessorType = FactorProcessor

    options: FactorOptions
    processor: FactorProcessor
    popularity: Tensor

    def __init__(self, *, options: FactorOptions, problem: Problem, processor: FactorProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes: list[str] = []
        counts = torch.tensor(problem["counts"], dtype=torch.float32)
        self.register_buffer("popularity", torch.log(counts + 1), persistent=False)
        self.users = nn.Embedding(len(problem["users"]), options.width)
        self.items = nn.Embedding(len(problem["items"]), options.width)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        self._settled: Vectors | None = None

    @abstractmethod
    def vectors(self) -> Vectors:
        """The vectors that the parameters stand for, with gradients."""

    @classmethod
    def fit_processor(
        cls, *, options: FactorOptions, problem: Problem, train: Split | None, seed: int
    ) -> FactorProcessor:
        memory = Memory.of(train.interactions) if isinstance(train, RankingTrain) else None
        return FactorProcessor(negatives=options.negatives, recent=options.recent, memory=memory)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: FactorOptions, problem: Problem, train: Split | None
    ) -> FactorProcessor:
        return cls.fit_processor(options=options, problem=problem, train=train, seed=0)

    @classmethod
    def build(cls, *, options: FactorOptions, problem: Problem, processor: FactorProcessor, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        if processor.memory is not None:
            events = processor.memory.histories.sizes
            full = int((events >= len(problem["items"])).sum())
            if full:  # only they can have met every item: 0 negatives are left to draw
                model.notes.append(
                    f"users who have met every item, so that nothing can be learned of them: up to {full:,}"
                )
        return model

    def train(self, mode: bool = True) -> Self:
        if mode or self.training:
            self._settled = None  # the parameters may have moved; asked again and again, they have not
        return super().train(mode)

    def forward(self, batch: Batch) -> Output:
        """Of interactions the loss; of cases also scores of all items, [batch, items]."""
        if (positives := batch.get("positives")) is not None:
            return self._fit(batch["users"], positives, batch["negatives"])
        if not self.training and self._settled is None:
            self._settled = self.vectors()  # once for all batches of an evaluation
        vectors = self.vectors() if self._settled is None else self._settled
        scores = self._scores(batch, vectors)
        wanted = batch.get("wanted")
        if wanted is None or not len(scores):
            return Output(scores.sum() if wanted is not None else None, scores)
        return Output(F.cross_entropy(scores, wanted), scores)

    def _fit(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Output:
        vectors = self.vectors()
        # users and items occur several times: an embedding's gradient is a sum in one order, that of an index is not
        who, biases = F.embedding(users, vectors.users), vectors.bias[:, None]
        if negatives.shape[1] > 1:
            with torch.no_grad():
                liked = (vectors.items[negatives] * who[:, None]).sum(dim=2) + vectors.bias[negatives]
                negatives = negatives.gather(1, liked.argmax(dim=1, keepdim=True))
        rejected = negatives[:, 0]
        apart = F.embedding(positives, vectors.items) - F.embedding(rejected, vectors.items)
        margins = (who * apart).sum(dim=1) + (F.embedding(positives, biases) - F.embedding(rejected, biases))[:, 0]
        loss = F.softplus(-margins.float()).mean()
        if self.training and self.options.penalty:
            own = (self.users(users), self.items(positives), self.items(rejected))
            squares = torch.stack([each.square().sum() for each in own]).sum() / len(users)
            loss = loss + 0.5 * self.options.penalty * squares
        return Output(loss, margins)

    def _scores(self, batch: Batch, vectors: Vectors) -> Tensor:
        """What each case's user will like, what is popular where nothing is known, or what is like an item."""
        users, items, like = batch["users"], batch["items"], batch["like"]
        there = items >= 0
        history = (vectors.items[items.clamp(min=0)] * there[:, :, None]).sum(dim=1)
        usual = vectors.users.norm(dim=1).mean()
        strangers = F.normalize(history) * usual
        known = (users >= 0)[:, None]
        who = torch.where(known, vectors.users[users.clamp(min=0)], strangers)
        scores = F.linear(who, vectors.items, vectors.bias).float()
        scores = torch.where(known | there.any(dim=1, keepdim=True), scores, self.popularity)
        if bool((like >= 0).any()):
            directions = F.normalize(vectors.items.float())
            scores = torch.where((like >= 0)[:, None], directions[like.clamp(min=0)] @ directions.T, scores)
        return scores

    def decode(self, output: Output, batch: Batch) -> Any:
        """The best items of each case, as many as the largest cutoff or as the case asks for."""
        if not batch.size:
            return []
        return rank(output.logits.detach().clone(), batch.extra["queries"], max(self.problem["cutoffs"]))

    def save_assets(self, directory: Path) -> None:
        super().save_assets(directory)
        if self.processor.memory is not None:
            self.processor.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: FactorOptions, problem: Problem) -> Self:
        model = super().load(directory, options=options, problem=problem)
        model.processor.memory = Memory.load(directory)
        return model

    def start_from(self, other: Model) -> list[str]:
        require_same_ids(self.problem, other.problem, "users", "items")
        return super().start_from(other)
