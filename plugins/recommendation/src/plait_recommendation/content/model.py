"""Who likes what is like what they chose, whoever else chose it?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import DataError
from plait.model import IterativeModel, Progress, State
from plait.options import PATH, ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_recommendation.closed.popularity import remembered
from plait_recommendation.content.encoding import given_vectors, hashed_words, predicted_vectors, require_columns
from plait_recommendation.ids import Codes
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case, RankingTrain
from plait_recommendation.ranking.queries import Memory
from plait_recommendation.ranking.recommending import recommend


class ContentOptions(ModelOptions):
    """The `model` block of recommendation/content-based."""

    encoder: str | None = Field(default=None, json_schema_extra=PATH)
    """A run, model directory or saved composition whose predictor returns an embedding, of any plugin; it is asked once
    for each item, and not needed afterwards."""
    columns: tuple[str, ...] = ()
    """Columns of the item table: the one that the encoder is given, an embedding column, or those whose words count.
    None: an embedding column where there is one, else all others but numbers."""
    hashes: int = Field(default=1024, ge=2)
    """Places that words are hashed into."""
    profile: Literal["mean", "attention"] = "mean"
    """What a history is to an item: the mean likeness of its items, or the mean weighted towards the likest ones."""
    sharpness: float = Field(default=10.0, ge=0)
    """Of attention: 0 is the mean; likeness is at most 1."""
    recent: int | None = Field(default=None, ge=1)
    """How many of the last items of a history count; None: all."""


class ContentBased(IterativeModel):
    """Items are vectors of what they are about: an encoder's, given ones, or words weighted by rarity. A score is the
    cosine with the items of a history, so that new items and new users are served without a fit.

    It knows nobody else's taste. Items of which nothing is known have the score 0.
    """

    Options: ClassVar[type[ContentOptions]] = ContentOptions

    options: ContentOptions
    memory: Memory

    def __init__(self, *, options: ContentOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.vectors = torch.zeros(0, 0)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        """Raises:
        DataError: there is no item table, or it has no column of that name.
        """
        features = train.item_features if isinstance(train, RankingTrain) else None
        if features is None or not features.kinds:
            raise DataError(
                "recommendation/content-based needs to know what items are about, and there is no item table",
                hint="name one: data.items=FILE, with a column item and texts, values or embeddings",
            )
        require_columns(features, options.columns)
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        self.memory = remembered(data, engine)
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        assert isinstance(data, RankingTrain)
        vectors = F.normalize(torch.from_numpy(self._encode(data)))
        blank = float((vectors == 0).all(dim=1).float().mean())
        return State({"vectors": vectors}), Progress({"items_without_content": blank}, converged=True)

    def _encode(self, data: RankingTrain) -> Any:
        features, options = data.item_features, self.options
        assert features is not None  # `create` has looked
        if options.encoder is not None:
            column = options.columns[0] if options.columns else None
            return predicted_vectors(features, data.items, Path(options.encoder), column)
        embeddings = [name for name in options.columns or features.kinds if features.kinds[name] == "embedding"]
        if embeddings:
            return given_vectors(features, embeddings[0])
        words = options.columns or features.names("text", "categorical", "token_seq")
        if not words:
            raise DataError("the item table has only numbers: nothing says what an item is about")
        return hashed_words(features, words, options.hashes)

    def finish(self, state: State) -> None:
        self.vectors = state.tensors["vectors"]

    def predict(self, examples: Sequence[Case]) -> Any:
        return recommend(self, examples, self.problem)

    def score(self, histories: Lists) -> Tensor:
        scores = torch.zeros(len(histories), len(self.vectors))
        for row in range(len(histories)):
            history = self._own(histories[row])
            if self.options.profile == "mean" and len(history):
                scores[row] = self.vectors @ history.mean(dim=0)
            elif len(history):
                scores[row] = self._attended(history @ self.vectors.T).sum(dim=0)
        return scores

    def similar(self, items: Codes) -> Tensor:
        return self.vectors[torch.from_numpy(items.astype(np.int64))] @ self.vectors.T

    def weigh(self, history: Codes, items: Codes) -> Tensor:
        likeness = self._own(history) @ self.vectors[torch.from_numpy(items.astype(np.int64))].T
        parts = likeness / max(len(likeness), 1) if self.options.profile == "mean" else self._attended(likeness)
        return parts.T

    def _own(self, history: Codes) -> Tensor:
        """The vectors of a history's items that count, [items, width]."""
        last = history if self.options.recent is None else history[-self.options.recent :]
        return self.vectors[torch.from_numpy(last.astype(np.int64))]

    def _attended(self, likeness: Tensor) -> Tensor:
        """What each item of a history, [history, items], adds to each score."""
        return torch.softmax(self.options.sharpness * likeness, dim=0) * likeness

    def save(self, directory: Path) -> None:
        save_tensors({"vectors": self.vectors}, directory / "model.safetensors")
        self.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model.vectors = load_tensors(directory / "model.safetensors")["vectors"]
        model.memory = Memory.load(directory)
        return model
