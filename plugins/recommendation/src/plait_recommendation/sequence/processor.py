"""How do histories become the padded tensors that a sequence network sees?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch

from plait.errors import IntegrityError
from plait.model import Batch, Key, Processor
from plait.randomness import uniforms
from plait_recommendation.ids import Codes
from plait_recommendation.padding import first_targets, padded, recent
from plait_recommendation.ranking.cases import Case, RankingTrain
from plait_recommendation.ranking.queries import Memory, Queries
from plait_recommendation.sequence.windows import Window, Windows, cuts, shifts

NO_TARGET = -1
"""Where a position has nothing to be learned."""

Objective = Literal["next", "masked"]


@dataclass(kw_only=True)
class SequenceProcessor(Processor):
    """The preprocessing of a sequence network: windows in training, the last items of a history in prediction.

    It knows item codes, no ids and no network. A history longer than the window is cut to its last `length` items.

    Args:
        items: how many items there are; `items` itself is padding, `items` + 1 the mask.
        length: positions of a window.
        objective: next: each position's target is the item after it; masked: some items are masked, and their
            positions' targets are those items.
        masked: the part of the positions that are masked.
        negatives: item codes that are drawn for each window; 0: none.
        memory: what each user of the training did, so that a user's id is enough to ask; kept beside the JSON.
    """

    items: int
    length: int
    objective: Objective = "next"
    masked: float = 0.0
    negatives: int = 0
    memory: Memory | None = None

    @property
    def padding(self) -> int:
        """The code that fills rows up."""
        return self.items

    @property
    def seen(self) -> int:
        """Items of a history that a window holds: a mask needs room for itself."""
        return self.length if self.objective == "next" else self.length - 1

    def units(self, train: Any) -> Windows:
        """Windows of users' histories; an epoch holds each step of each history once. Every rank remembers who did
        what."""
        assert isinstance(train, RankingTrain)
        if self.memory is None:
            self.memory = Memory.of(train.interactions)
        return Windows(train, length=self.seen)

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        """Windows with targets, or cases with what they are judged by.

        Returns:
            "items": int64 [batch, positions], filled up on the right. Of windows: "targets", int64 [batch, positions],
            `NO_TARGET` where there is none; "negatives", int64 [batch, drawn], where a loss needs them. Of cases:
            "lengths", int64 [batch], items of the history that are seen; "like", int64 [batch], the item of an
            item-to-item question or -1; "wanted", int64 [batch], the first target, where every case has one.
        """
        if len(examples) and isinstance(examples[0], Window):
            return self._windows(examples, keys, training=training)
        return self._cases(examples)

    def _windows(self, windows: Sequence[Window], keys: Sequence[Key], *, training: bool) -> Batch:
        moved = shifts(windows, keys) if training else np.zeros(len(windows))
        parts = cuts(windows, length=self.seen, shifts=moved)
        if self.objective == "next":
            items = padded([part[:-1] for part in parts], self.padding)
            targets = padded([part[1:] for part in parts], NO_TARGET)
        else:
            items, targets = self._masked(parts, keys, training=training)
        tensors = {"items": torch.from_numpy(items), "targets": torch.from_numpy(targets)}
        if self.negatives:
            draws = uniforms(keys, self.negatives + self.length)[:, self.length :]  # the first ones mask
            tensors["negatives"] = torch.from_numpy((draws * self.items).astype(np.int64))
        return Batch(tensors, count=int((targets != NO_TARGET).sum()), size=len(windows))

    def _masked(self, parts: Sequence[Codes], keys: Sequence[Key], *, training: bool) -> tuple[Any, Any]:
        """Masked positions: each with probability `masked`, and the last one where none is, or in prediction."""
        items = padded(parts, self.padding)
        there = items != self.padding
        last = np.zeros_like(there)
        last[np.arange(len(parts)), there.sum(axis=1) - 1] = True
        chosen = there & (uniforms(keys, items.shape[1]) < self.masked) if training else last
        chosen |= last & ~chosen.any(axis=1, keepdims=True)
        return np.where(chosen, self.items + 1, items), np.where(chosen, items, NO_TARGET)

    def _cases(self, cases: Sequence[Case]) -> Batch:
        queries = Queries.of(cases, self.memory)
        items, lengths = recent(queries.histories, self.seen, padding=self.padding, room=self.objective == "masked")
        if self.objective == "masked":
            items[np.arange(len(items)), lengths] = self.items + 1
        tensors = {"items": torch.from_numpy(items), "lengths": torch.from_numpy(lengths)}
        tensors["like"] = torch.from_numpy(queries.likes.astype(np.int64))
        wanted = first_targets(cases)
        if wanted is not None:
            tensors["wanted"] = torch.from_numpy(wanted)
        return Batch(tensors, count=len(queries), size=len(queries), extra={"queries": queries})

    def as_json(self) -> dict[str, Any]:
        names = ("items", "length", "objective", "masked", "negatives")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields.
        """
        try:
            return cls(**state)
        except TypeError as error:
            raise IntegrityError(f"processor.json does not describe a sequence processor: {error}") from error
