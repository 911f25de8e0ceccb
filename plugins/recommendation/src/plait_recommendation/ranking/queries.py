"""What do cases ask of a model, as columns that a block of scores can be computed from?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from plait.weights import load_tensors, save_tensors
from plait_recommendation.ids import UNKNOWN, Codes
from plait_recommendation.interactions import Interactions, Lists
from plait_recommendation.ranking.cases import EMPTY, Case, RankingSplit

FILE = "histories.safetensors"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model keeps of the users it was fitted on, so that a user's id is enough to ask.

    Args:
        histories: one list a user code, in the order of time.
        counts: how often each item occurs in them, int64 [items]: what to say to somebody of whom nothing is known.
    """

    histories: Lists
    counts: np.ndarray

    @classmethod
    def of(cls, interactions: Interactions) -> Memory:
        """The memory of training events."""
        return cls(interactions.by_user(), interactions.item_counts())

    def of_user(self, user: int) -> Codes:
        """A user's history; empty for one that is not known."""
        return self.histories[user] if 0 <= user < len(self.histories) else EMPTY

    def save(self, directory: Path) -> None:
        """Write it beside a model's weights: four bytes an event."""
        arrays = {"indptr": self.histories.indptr, "items": self.histories.items, "counts": self.counts}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        save_tensors(tensors, directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> Memory:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the file is not readable.
        """
        arrays = {name: tensor.numpy() for name, tensor in load_tensors(directory / FILE).items()}
        return cls(Lists(arrays["indptr"], arrays["items"]), arrays["counts"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """A block of cases as columns.

    Args:
        users: codes, -1 for users whom the model has not seen, int32 [queries].
        histories: one list a query, in the order of time: given with the case, or remembered.
        likes: the item of an item-to-item query, else -1, int32 [queries].
        barred: items that must not be given: seen ones where they are masked, and excluded ones; None: none at all.
        allowed: by query, the only items that may be given.
        counts: by query, how many items are wanted, where the query says.
        explain: by query, how many reasons to give for each item, where it asks for any.
        notes: one tuple a query, or None where no query has any.
    """

    users: Codes
    histories: Lists
    likes: Codes
    barred: Lists | None
    allowed: Mapping[int, Codes] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    explain: Mapping[int, int] = field(default_factory=dict)
    notes: Sequence[tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, cases: Sequence[Case], memory: Memory | None = None) -> Queries:
        """The queries of cases; a `RankingSplit` makes no object for each.

        Args:
            memory: where histories are from that a case does not give; without one they are empty.
        """
        if isinstance(cases, RankingSplit):
            likes = np.full(len(cases), UNKNOWN, np.int32)
            barred = cases.histories if cases.mask_seen else None
            return cls(users=cases.users, histories=cases.histories, likes=likes, barred=barred)
        histories = [_history(case, memory) for case in cases]
        barred_each = [_barred(case, history) for case, history in zip(cases, histories, strict=True)]
        return cls(
            users=np.array([case.user for case in cases], np.int32), histories=_lists(histories),
            likes=np.array([UNKNOWN if case.item is None else case.item for case in cases], np.int32),
            barred=_lists(barred_each),
            allowed={row: case.allowed for row, case in enumerate(cases) if case.allowed is not None},
            counts={row: case.n for row, case in enumerate(cases) if case.n is not None},
            explain={row: case.explain for row, case in enumerate(cases) if case.explain},
            notes=[case.notes for case in cases] if any(case.notes for case in cases) else None,
        )  # fmt: skip


def _history(case: Case, memory: Memory | None) -> Codes:
    if case.history is not None:
        return case.history
    return EMPTY if memory is None else memory.of_user(case.user)


def _barred(case: Case, history: Codes) -> Codes:
    if case.item is not None:
        return np.append(case.excluded, np.int32(case.item)).astype(np.int32)
    return np.concatenate([history, case.excluded]) if case.mask_seen else case.excluded


def _lists(parts: Sequence[Codes]) -> Lists:
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(each) for each in parts], dtype=np.int64)])
    return Lists(indptr, np.concatenate([EMPTY, *parts]).astype(np.int32))
