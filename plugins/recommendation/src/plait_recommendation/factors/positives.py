"""Which items has a user met, and which can stand for those that they have not?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plait_recommendation.ids import Codes
from plait_recommendation.interactions import Interactions

Draws = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """The items that each user has not met, to draw negatives from: uniformly, exactly and without trying again.

    With a user's m distinct items s[0] < s[1] < ..., the r-th of the others is r plus the number of s[j] - j that are
    at most r; all users' s[j] - j lie in one ascending array, so that one search answers for a batch.

    Args:
        keys: user * (items + 1) + s[j] - j, int64 [distinct events].
        indptr: where each user's begin, int64 [users + 1].
        items: how many there are.
    """

    keys: npt.NDArray[np.int64]
    indptr: npt.NDArray[np.int64]
    items: int

    @classmethod
    def of(cls, events: Interactions) -> Unseen:
        """What the users of these events have not met."""
        pairs = np.unique(events.users.astype(np.int64) * events.item_count + events.items)
        users, items = np.divmod(pairs, events.item_count)
        indptr = np.zeros(events.user_count + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=events.user_count), out=indptr[1:])
        within = np.arange(len(pairs)) - indptr[users]
        return cls(users * (events.item_count + 1) + items - within, indptr, events.item_count)

    @property
    def left(self) -> npt.NDArray[np.int64]:
        """How many items each user has not met, int64 [users]."""
        return self.items - np.diff(self.indptr)

    def draw(self, users: Codes, uniforms: npt.NDArray[np.float64]) -> Draws:
        """Items that the users have not met, int64 [rows, draws].

        Args:
            users: codes, [rows]; each has an item left.
            uniforms: in [0, 1), [rows, draws].
        """
        places = (uniforms * self.left[users][:, None]).astype(np.int64)
        wanted = users.astype(np.int64)[:, None] * (self.items + 1) + places
        return places + np.searchsorted(self.keys, wanted, side="right") - self.indptr[users][:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Positive:
    """One interaction to learn from.

    Args:
        user, item: codes.
        unseen: what to draw negatives from.
    """

    user: int
    item: int
    unseen: Unseen


class Positives(Sequence[Positive]):
    """Interactions as columns: what an epoch visits, one by one or a batch at a time.

    Args:
        users, items: codes, int32 [n].
        unseen: what to draw negatives from.
    """

    in_memory = True

    def __init__(self, users: Codes, items: Codes, unseen: Unseen) -> None:
        self.users, self.items, self.unseen = users, items, unseen

    @classmethod
    def of(cls, events: Interactions) -> Positives:
        """All interactions but those of users who have met every item: they have no negative."""
        unseen = Unseen.of(events)
        kept = unseen.left[events.users] > 0
        return cls(events.users[kept], events.items[kept], unseen)

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Positives(self.users[index], self.items[index], self.unseen)
        return Positive(int(self.users[index]), int(self.items[index]), self.unseen)

    def take(self, indices: Sequence[int]) -> Positives:
        """The interactions at `indices`, still as columns."""
        rows = np.asarray(indices, np.int64)
        return Positives(self.users[rows], self.items[rows], self.unseen)


def as_columns(positives: Sequence[Positive]) -> Positives:
    """Interactions as columns, however they are given; they share what negatives are drawn from."""
    if isinstance(positives, Positives):
        return positives
    users = np.array([each.user for each in positives], np.int32)
    return Positives(users, np.array([each.item for each in positives], np.int32), positives[0].unseen)
