"""How do interactions and questions become the codes that a factor model looks up?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from plait.errors import IntegrityError
from plait.model import Batch, Key, Processor
from plait.randomness import uniforms
from plait_recommendation.factors.positives import Positive, Positives, as_columns
from plait_recommendation.padding import first_targets, recent
from plait_recommendation.ranking.cases import Case, RankingTrain
from plait_recommendation.ranking.queries import Memory, Queries


@dataclass(kw_only=True)
class FactorProcessor(Processor):
    """The preprocessing of a factor model. It knows codes, no ids and no vectors.

    Args:
        negatives: items that are drawn for each interaction, of those that its user has not met.
        recent: how many of the last items of a history stand for a user whom training has not seen.
        memory: what each user of the training did; kept beside the JSON.
    """

    negatives: int
    recent: int
    memory: Memory | None = None

    def units(self, train: Any) -> Positives:
        """Interactions, without those of users who have met every item. Every rank remembers who did what."""
        assert isinstance(train, RankingTrain)
        if self.memory is None:
            self.memory = Memory.of(train.interactions)
        return Positives.of(train.interactions)

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        """Interactions with negatives, or cases.

        Returns:
            Of interactions: "users", "positives", int64 [batch]; "negatives", int64 [batch, drawn]. Of cases: "users",
            int64 [batch], -1 for one whom training has not seen; "items", int64 [batch, recent], -1 where there is
            none; "like", int64 [batch], the item of an item-to-item question or -1; "wanted", int64 [batch], the
            first target, where every case has one.
        """
        if len(examples) and (isinstance(examples, Positives) or isinstance(examples[0], Positive)):
            return self._interactions(as_columns(examples), keys)
        return self._cases(examples)

    def _interactions(self, positives: Positives, keys: Sequence[Key]) -> Batch:
        drawn = positives.unseen.draw(positives.users, uniforms(keys, self.negatives))
        tensors = {
            "users": torch.from_numpy(positives.users.astype(np.int64)),
            "positives": torch.from_numpy(positives.items.astype(np.int64)),
            "negatives": torch.from_numpy(drawn),
        }
        return Batch(tensors, count=len(positives), size=len(positives))

    def _cases(self, cases: Sequence[Case]) -> Batch:
        queries = Queries.of(cases, self.memory)
        items, _ = recent(queries.histories, self.recent, padding=-1)
        users = queries.users.astype(np.int64)
        if self.memory is not None and len(users):  # held-out users have codes, and vectors that nobody has fitted
            users[self.memory.histories.sizes[users] == 0] = -1
        tensors = {
            "users": torch.from_numpy(users),
            "items": torch.from_numpy(items),
            "like": torch.from_numpy(queries.likes.astype(np.int64)),
        }
        wanted = first_targets(cases)
        if wanted is not None:
            tensors["wanted"] = torch.from_numpy(wanted)
        return Batch(tensors, count=len(queries), size=len(queries), extra={"queries": queries})

    def as_json(self) -> dict[str, Any]:
        return {"negatives": self.negatives, "recent": self.recent}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields.
        """
        try:
            return cls(**state)
        except TypeError as error:
            raise IntegrityError(f"processor.json does not describe a factor model's processor: {error}") from error
