"""What is one example of a ranking task, and how are millions of them kept?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait_recommendation.features import FeatureTable
from plait_recommendation.ids import UNKNOWN, Codes, IdMap
from plait_recommendation.interactions import Interactions, Lists

EMPTY: Codes = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Rank items for one user, or like one item. What is judged has targets; what a user asks has none.

    Args:
        user: code, or -1 for one whom training has not seen.
        history: item codes in the order of time, int32 [events]; None: what the model remembers of the user.
        targets: item codes that a good ranking puts first, int32 [targets].
        id: what tables call it.
        item: rank items like this one (item-to-item) instead; history is then not used.
        n: how many items to give; None: as many as the task's largest cutoff.
        allowed: only these item codes may be given, int32, or None.
        excluded: item codes that must not be given, int32.
        mask_seen: whether items of the history are left out.
        explain: how many reasons to give for each item, where the model has them.
        notes: what the answer says beside the ranking: unknown ids.
    """

    user: int
    history: Codes | None
    targets: Codes = field(default_factory=lambda: EMPTY)
    id: str = ""
    item: int | None = None
    n: int | None = None
    allowed: Codes | None = None
    excluded: Codes = field(default_factory=lambda: EMPTY)
    mask_seen: bool = True
    explain: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class UserHistory:
    """What one user did, to learn from.

    Args:
        user: code.
        history: item codes in the order of time, int32 [events].
        id: the user's id as text.
    """

    user: int
    history: Codes
    id: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Items in order of preference.

    Args:
        items: codes, int32 [k], best first; fewer than asked for where not enough are allowed.
        scores: float32 [k], not ascending; of no fixed unit.
        notes: from the case.
        reasons: for each item the codes of history items that speak for it most, and how much they add to the score
            (of sequence models: to the log-probability, in nats); None where none are asked for, or the model has none.
    """

    items: Codes
    scores: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()
    reasons: tuple[tuple[tuple[int, float], ...], ...] | None = None


class RankingTrain(Sequence[UserHistory]):
    """What is learned from: columns of interactions; one example is one user's history. It knows no targets.

    Args:
        interactions: the training events alone; codes are of the whole data.
        users, items: the ids.
        user_features, item_features: one row a code, or None.
        how: how the data were divided.
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        users: IdMap,
        items: IdMap,
        user_features: FeatureTable | None = None,
        item_features: FeatureTable | None = None,
        how: str = "",
    ) -> None:
        self.interactions = interactions
        self.how = how
        self.users, self.items = users, items
        self.user_features, self.item_features = user_features, item_features
        self.histories: Lists = interactions.by_user()
        self.present: Codes = np.flatnonzero(self.histories.sizes).astype(np.int32)
        """Codes of users who have events, ascending: example i is user present[i]."""

    def __len__(self) -> int:
        return len(self.present)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        user = int(self.present[index])
        return UserHistory(user, self.histories[user], str(self.users.id(user)))

    def table(self, columns: Sequence[str]) -> pa.Table:
        """The interactions' columns: user, item (codes), rating, timestamp and further ones."""
        return self.interactions.table().select(list(columns))


class RankingSplit(Sequence[Case]):
    """Cases to judge, kept as columns and made when asked for.

    Args:
        users: codes in the trained run's map, -1 for users that it has not seen, int32 [cases].
        histories, targets: one list a case.
        ids: the users' ids, [cases].
        mask_seen: whether items of the history must not be recommended.
    """

    def __init__(
        self, *, users: Codes, histories: Lists, targets: Lists, ids: pa.Array, mask_seen: bool = True
    ) -> None:
        self.users, self.histories, self.targets, self.ids, self.mask_seen = users, histories, targets, ids, mask_seen

    def __len__(self) -> int:
        return len(self.users)

    def take(self, indices: Sequence[int]) -> RankingSplit:
        """The cases at `indices`, still as columns, so that judging makes no object for each."""
        rows = np.asarray(indices, np.int64)
        return RankingSplit(
            users=self.users[rows], histories=self.histories.take(rows), targets=self.targets.take(rows),
            ids=self.ids.take(pa.array(rows)), mask_seen=self.mask_seen,
        )  # fmt: skip

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return Case(
            int(self.users[index]), self.histories[index], self.targets[index], str(self.ids[index]),
            mask_seen=self.mask_seen,
        )  # fmt: skip


def no_user(history: Codes, *, id_: str = "") -> Case:
    """A case of somebody unknown, from what they did."""
    return Case(UNKNOWN, history, id=id_)
