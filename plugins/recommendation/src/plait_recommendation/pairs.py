"""What is an example where a user met an item once: a click or not, a rating?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait_recommendation.features import FeatureTable
from plait_recommendation.interactions import InteractionData

Positions = npt.NDArray[np.int64]
Targets = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pair:
    """One user and one item.

    Args:
        values: "user", "item", and what is known of the two and of their meeting, by column; absent or None: unknown.
        target: 0 or 1 (a click), or a rating; None where it is to be predicted.
        id: the row of the source that it came from, from 1: "17".
    """

    values: Mapping[str, Any]
    target: float | None = None
    id: str = ""


class Pairs(Sequence[Pair]):
    """A split of pairs as columns: ten million of them are arrays, never ten million objects. It knows no model.

    Args:
        data: interactions, ids, and features of users and items; several splits share one.
        rows: which interactions, int64 [pairs].
        targets: float32 [pairs].
        context: what is known of each interaction of `data` beside user and item, or None.
    """

    in_memory = True  # loader processes would only copy the columns

    def __init__(
        self, data: InteractionData, rows: Positions, targets: Targets, *, context: FeatureTable | None = None
    ) -> None:
        self.data, self.rows, self.targets, self.context = data, rows, targets, context

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """One `Pair` by position; a slice gives `Pairs`."""
        if isinstance(index, slice):
            return self._part(index)
        row = self.rows[index]
        events = self.data.interactions
        user, item = int(events.users[row]), int(events.items[row])
        values: dict[str, Any] = {"user": self.data.users.id(user), "item": self.data.items.id(item)}
        known = ((self.data.user_features, user), (self.data.item_features, item), (self.context, int(row)))
        for features, position in known:
            if features is not None:
                values |= {name: features.table.column(name)[position].as_py() for name in features.kinds}
        return Pair(values, float(self.targets[index]), str(int(events.rows[row]) + 1))

    def take(self, indices: Sequence[int]) -> Pairs:
        """The pairs at these positions, in that order, as columns."""
        return self._part(np.asarray(indices, np.int64))

    @property
    def users(self) -> npt.NDArray[np.int32]:
        """User codes, [pairs]."""
        return self.data.interactions.users[self.rows]

    @property
    def items(self) -> npt.NDArray[np.int32]:
        """Item codes, [pairs]."""
        return self.data.interactions.items[self.rows]

    def ids(self) -> pa.Array:
        """Each pair's row of the source, from 1, as text."""
        return pa.array(self.data.interactions.rows[self.rows].astype(np.int64) + 1).cast(pa.string())

    def table(self, columns: Sequence[str] = ("user", "item", "target")) -> pa.Table:
        """Columns user, item (codes, int32) and target (float32), one row a pair."""
        every = {"user": self.users, "item": self.items, "target": self.targets}
        return pa.table({name: pa.array(every[name]) for name in columns})

    def _part(self, index: Any) -> Pairs:
        return Pairs(self.data, self.rows[index], self.targets[index], context=self.context)
