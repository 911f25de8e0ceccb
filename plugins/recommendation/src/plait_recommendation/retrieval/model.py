"""What do the two towers look like, and how are the nearest items found?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from plait.model import Batch, Model, NeuralModel, Output
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_recommendation.ids import require_same_ids
from plait_recommendation.padding import recent
from plait_recommendation.ranking.cases import RankingTrain
from plait_recommendation.ranking.topk import rank
from plait_recommendation.retrieval.features import Encoded, Vocabulary
from plait_recommendation.retrieval.neighbours import InvertedLists
from plait_recommendation.retrieval.processor import TowerProcessor

INDEX = "index.safetensors"
_NEVER = -1e4  # a logit, within float16's range
_PROBED = 1000  # users whose answers measure the index: +-0.01 of recall


class TwoTowerOptions(ModelOptions):
    """The `model` block of recommendation/two-tower."""

    width: int = Field(default=64, ge=2)
    """Components of what a tower gives."""
    hidden: int = Field(default=128, ge=0)
    """Units of each tower's layer; 0: none, a tower is then a sum of vectors."""
    length: int = Field(default=50, ge=1)
    """How many of the last items of a history the user tower sees."""
    user_ids: bool = True
    """Whether a user has a vector of their own, beside history and features."""
    forget: float = Field(default=0.3, ge=0, le=1)
    """How often a user's or item's own vector is left out in training, so that history and features speak for who or
    what is new."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Part of the activations that is dropped in training."""
    temperature: float = Field(default=0.1, gt=0)
    """What cosines are divided by: smaller tells near items apart more sharply."""
    search: Literal["exact", "ivf"] = "exact"
    """exact: every item is looked at; ivf: those in the nearest of some lists (approximate; from 100,000 items on)."""
    lists: int | None = Field(default=None, ge=1)
    """Lists of the ivf index; None: the square root of the number of items."""
    probes: int = Field(default=8, ge=1)
    """Lists that an ivf search looks at."""


class Tower(nn.Module):
    """A sum of vectors (of an id, of words, of numbers, of whatever is given beside them), a layer around which it
    goes, and a direction. It does not know whether it is for users or items.

    Args:
        known: what there is to be known: words and numbers.
        options: widths and dropout.
    """

    def __init__(self, known: Vocabulary, options: TwoTowerOptions) -> None:
        super().__init__()
        self.dropout = options.dropout
        self.words = nn.EmbeddingBag(len(known.words) + 1, options.width, mode="mean", padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.1)
        with torch.no_grad():
            self.words.weight[0].zero_()
        self.numbers = nn.Linear(known.width, options.width, bias=False) if known.width else None
        self.inner = nn.Linear(options.width, options.hidden) if options.hidden else None
        self.outer = nn.Linear(options.hidden, options.width) if options.hidden else None

    def forward(self, vectors: Tensor, words: Tensor, numbers: Tensor) -> Tensor:
        """Directions, [rows, width], from vectors [rows, width], words [rows, most] and numbers [rows, numbers]."""
        vectors = vectors + self.words(words)
        if self.numbers is not None:
            vectors = vectors + self.numbers(numbers)
        vectors = F.dropout(vectors, self.dropout, self.training)
        if self.inner is not None and self.outer is not None:
            vectors = vectors + self.outer(F.dropout(F.gelu(self.inner(vectors)), self.dropout, self.training))
        return F.normalize(vectors, dim=1)


class TwoTower(NeuralModel):
    """Two-tower retrieval: one network makes a direction of a user (id, last items, features), another of an item (id,
    features), and the cosine says how well they go together.

    Fitted by softmax over the items of the batch, each logit corrected by the logarithm of how often its item is in a
    batch (logQ: Yi et al. 2019, equation 5; frequencies are counted, not estimated on the way): those of all processes,
    so that their number changes nothing; a `trainer.micro_batch_size` does, since what is accumulated is not compared.
    A user whom training has not seen is answered from history and features. It knows the order of a history only by its
    cut.
    """

    compares_examples = True

    Options: ClassVar[type[TwoTowerOptions]] = TwoTowerOptions
    ProcessorType = TowerProcessor

    options: TwoTowerOptions
    processor: TowerProcessor
    popularity: Tensor
    frequency: Tensor

    def __init__(self, *, options: TwoTowerOptions, problem: Problem, processor: TowerProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        counts = torch.tensor(problem["counts"], dtype=torch.float32)
        self.register_buffer("popularity", torch.log(counts + 1), persistent=False)
        self.register_buffer("frequency", torch.log((counts + 1) / (counts + 1).sum()), persistent=False)
        self.users = nn.Embedding(len(problem["users"]), options.width)
        self.items = nn.Embedding(len(problem["items"]), options.width)
        self.history = nn.Embedding(len(problem["items"]) + 1, options.width, padding_idx=len(problem["items"]))
        for table in (self.users, self.items, self.history):
            nn.init.normal_(table.weight, std=0.1)
        with torch.no_grad():
            self.history.weight[-1].zero_()
        self.user_tower = Tower(processor.user_words, options)
        self.item_tower = Tower(processor.item_words, options)
        self._settled: Tensor | None = None
        self._index: InvertedLists | None = None

    @classmethod
    def fit_processor(
        cls, *, options: TwoTowerOptions, problem: Problem, train: Split | None, seed: int
    ) -> TowerProcessor:
        if not isinstance(train, RankingTrain):
            nothing = Vocabulary(numbers={}, embeddings={})
            return TowerProcessor(length=options.length, user_words=nothing, item_words=nothing)
        return TowerProcessor.fit(train, length=options.length)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: TwoTowerOptions, problem: Problem, train: Split | None
    ) -> TowerProcessor:
        return cls.fit_processor(options=options, problem=problem, train=train, seed=0)

    def train(self, mode: bool = True) -> Self:
        if mode or self.training:
            self._settled = self._index = None  # the parameters may have moved; asked again and again, they have not
        return super().train(mode)

    def forward(self, batch: Batch) -> Output:
        """The loss where there is something to be told, and the users' directions, [batch, width]."""
        who = self._users(batch["users"], batch["history"])
        wanted = batch.get("wanted")
        if wanted is None:
            return Output(None, who)
        if not len(who):
            return Output(who.sum(), who)
        if "like" in batch.tensors:  # a case is judged against the whole catalogue
            return Output(F.cross_entropy(self._similarity(who), wanted), who)
        items, first = batch.across(self._items(wanted))
        every, _ = batch.across(wanted)
        logits = who @ items.T / self.options.temperature - self.frequency[every]
        places = torch.arange(len(wanted), device=wanted.device) + first
        same = (wanted[:, None] == every) & (places[:, None] != torch.arange(len(every), device=every.device))
        return Output(F.cross_entropy(logits.float().masked_fill(same, _NEVER), places), who)

    def _similarity(self, who: Tensor) -> Tensor:
        """The products with all items over the temperature, float32 [rows, items]."""
        return (who @ self._catalogue().T).float() / self.options.temperature

    def _users(self, users: Tensor, history: Tensor) -> Tensor:
        """Directions of users, [rows, width]; -1 for one whom nothing but the history is known of."""
        there = history >= 0
        padded = torch.where(there, history, self.history.num_embeddings - 1)
        vectors = self.history(padded).sum(dim=1) / there.sum(dim=1, keepdim=True).clamp(min=1)
        known = self._known(users)
        if self.options.user_ids:
            vectors = vectors + self.users(users.clamp(min=0)) * self._heard(known)[:, None]
        words, numbers = _rows(self.processor.users, users)
        return self.user_tower(vectors, words, numbers)  # type: ignore[no-any-return]  # a module's call is untyped

    def _known(self, users: Tensor) -> Tensor:
        """Who has events in the training: held-out users have codes, and vectors that nobody has fitted."""
        if self.processor.memory is None:
            return users >= 0
        events = torch.from_numpy(self.processor.memory.histories.sizes > 0).to(users.device)
        return (users >= 0) & events[users.clamp(min=0)]

    def _items(self, items: Tensor) -> Tensor:
        words, numbers = _rows(self.processor.items, items)
        own = self.items(items) * self._heard(self.popularity[items] > 0)[:, None]  # else a vector that nobody fitted
        return self.item_tower(own, words, numbers)  # type: ignore[no-any-return]  # as above

    def _heard(self, known: Tensor) -> Tensor:
        """Whose own vector counts, bool [rows]: those who are known, in training but for a part of them."""
        if not self.training:
            return known
        return known & (torch.rand(len(known), device=known.device) >= self.options.forget)

    def _catalogue(self) -> Tensor:
        """Directions of all items, [items, width]; computed once for all questions."""
        if self._settled is None or self.training:
            every = torch.arange(self.items.num_embeddings, device=self.items.weight.device)
            self._settled = torch.cat([self._items(part) for part in torch.split(every, 16_384)])
        return self._settled

    def decode(self, output: Output, batch: Batch) -> Any:
        """The nearest items of each case, as many as the largest cutoff or as the case asks for."""
        if not batch.size:
            return []
        queries, depth = batch.extra["queries"], max(self.problem["cutoffs"])
        like, who = batch["like"], output.logits.detach()
        catalogue = self._catalogue().detach()
        who = torch.where((like >= 0)[:, None], catalogue[like.clamp(min=0)], who)
        blank = (like < 0) & ~self._known(batch["users"]) & (batch["history"] < 0).all(dim=1)
        if self.options.search == "ivf" and not queries.allowed and not blank.any():
            index = self.index()
            found = index.search(who.cpu(), queries, k=depth, probes=self.options.probes)
            found.scores /= self.options.temperature
            return found
        scores = torch.where(blank[:, None], self.popularity, self._similarity(who).detach())
        return rank(scores, queries, depth)

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """Inside, the towers answer as they predict: no dropout, no gradients."""
        was = self.training
        self.train(False)
        try:
            with torch.no_grad():
                yield
        finally:
            if was:
                self.train(True)

    def index(self) -> InvertedLists:
        """The inverted lists of the catalogue; made once."""
        if self._index is None:
            vectors = self._catalogue().detach().cpu()
            lists = self.options.lists or max(1, round(math.sqrt(len(vectors))))
            self._index = InvertedLists.of(vectors, lists=lists, seed=0)
        return self._index

    def search_quality(self, k: int = 20) -> dict[str, float]:
        """What part of the exact answers the index finds, over users whom training remembers.

        Returns:
            "recall@k", "lists", "probes", and "looked_at": the part of the catalogue that a search looks at.
        """
        memory = self.processor.memory
        if memory is None:
            raise RuntimeError("the processor remembers no users: units() or load() comes first")
        codes = torch.from_numpy(memory.histories.sizes).nonzero()[:_PROBED, 0]
        with self._settling():
            history, _ = recent(memory.histories.take(codes.numpy()), self.options.length, padding=-1)
            device = self.items.weight.device
            who = self._users(codes.to(device), torch.from_numpy(history).to(device)).cpu()
            index, probes = self.index(), self.options.probes
        found = index.recall(who, k=min(k, len(index.items)), probes=probes)
        lists = len(index.centroids)
        return {f"recall@{k}": found, "lists": lists, "probes": probes, "looked_at": min(1.0, probes / lists)}

    def save_assets(self, directory: Path) -> None:
        """Beside the vocabulary: what is remembered; of an ivf search the index, and in index.json its recall against
        the exact search."""
        super().save_assets(directory)
        self.processor.save(directory)
        if self.options.search == "ivf" and self.processor.memory is not None:
            with self._settling():
                quality = self.search_quality(max(self.problem["cutoffs"]))
                self.index().save(directory / INDEX)
            (directory / "index.json").write_text(json.dumps(quality, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: TwoTowerOptions, problem: Problem) -> Self:
        model = super().load(directory, options=options, problem=problem)
        model.processor.read(directory)
        model.train(False)
        if (directory / INDEX).is_file():
            model._index = InvertedLists.load(directory / INDEX)
        return model

    def start_from(self, other: Model) -> list[str]:
        require_same_ids(self.problem, other.problem, "users", "items")
        return super().start_from(other)


def _rows(known: Encoded, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Words and numbers of some codes; nothing where the code is -1."""
    words, numbers = torch.from_numpy(known.words), torch.from_numpy(known.numbers)
    if not len(words):
        return torch.zeros(len(codes), 1, dtype=torch.int64, device=codes.device), codes.new_zeros(
            len(codes), 0
        ).float()
    at = codes.cpu().clamp(min=0)
    there = (codes.cpu() >= 0)[:, None]
    return (words[at] * there).to(codes.device), (numbers[at] * there).to(codes.device)
