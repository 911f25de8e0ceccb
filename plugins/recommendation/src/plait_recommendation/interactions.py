"""Who did what with which item, when: how are interactions kept so that a hundred million fit in memory?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait_recommendation.features import FeatureTable
from plait_recommendation.ids import Codes, IdMap

Numbers = npt.NDArray[np.float32]
Times = npt.NDArray[Any]
Pointers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """A list of item codes for each of many users, end to end (compressed sparse rows). It knows no times.

    Args:
        indptr: int64 [rows + 1]; row r is items[indptr[r]:indptr[r + 1]].
        items: int32 [values].
    """

    indptr: Pointers
    items: Codes

    @classmethod
    def of(cls, rows: Codes, items: Codes, count: int) -> Lists:
        """Lists of `count` rows from ascending row numbers [values] and their items [values]."""
        indptr = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=count), out=indptr[1:])
        return cls(indptr, items)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, row: int) -> Codes:
        return self.items[self.indptr[row] : self.indptr[row + 1]]

    @property
    def sizes(self) -> Pointers:
        """The length of each list, int64 [rows]."""
        return np.diff(self.indptr)

    def rows(self) -> Codes:
        """The row number of each value, int32 [values]."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.sizes)

    def take(self, rows: npt.NDArray[Any]) -> Lists:
        """The lists of some rows, in that order."""
        sizes = self.sizes[rows]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes)
        return Lists(indptr, self.items[np.repeat(self.indptr[:-1][rows], sizes) + within])


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Interactions by user, each user's in the order of time (equal times in the order of the file). Columns, never
    objects; 24 bytes each where there are ratings and times, 12 without. It knows neither ids nor files.

    Args:
        users, items: codes, int32 [n]; users ascend.
        user_count, item_count: codes are below these; some users or items may have no interaction.
        ratings: float32 [n], or None.
        times: int64 or float64 [n], in the data's own unit, or None: the file's order is then the order of time.
        rows: where each stood in what was read, from 0, uint32 or int64 [n].
        features: further columns, a table of n rows, or None.
    """

    users: Codes
    items: Codes
    user_count: int
    item_count: int
    rows: npt.NDArray[Any]
    ratings: Numbers | None = None
    times: Times | None = None
    features: pa.Table | None = None

    @classmethod
    def of(
        cls,
        users: Codes,
        items: Codes,
        *,
        user_count: int,
        item_count: int,
        ratings: Numbers | None = None,
        times: Times | None = None,
        features: pa.Table | None = None,
    ) -> Interactions:
        """Interactions from columns in the order of a file, all [n]."""
        order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
        small = np.uint32 if len(users) < 2**32 else np.int64
        return cls(
            users=users[order], items=items[order], user_count=user_count, item_count=item_count,
            rows=order.astype(small), ratings=None if ratings is None else ratings[order],
            times=None if times is None else times[order], features=None if features is None else features.take(order),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.users)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        parts = (self.users, self.items, self.rows, self.ratings, self.times)
        return sum(part.nbytes for part in parts if part is not None) + (self.features.nbytes if self.features else 0)

    @property
    def indptr(self) -> Pointers:
        """Where each user's interactions begin and end, int64 [user_count + 1]."""
        return np.searchsorted(self.users, np.arange(self.user_count + 1)).astype(np.int64)

    def by_user(self) -> Lists:
        """Each user's items in the order of time; shares memory."""
        return Lists(self.indptr, self.items)

    def by_item(self) -> Lists:
        """Each item's users, ascending."""
        order = np.argsort(self.items, kind="stable")
        return Lists.of(self.items[order], self.users[order], self.item_count)

    def item_counts(self) -> Pointers:
        """How often each item occurs, int64 [item_count]."""
        return np.bincount(self.items, minlength=self.item_count)

    def select(self, kept: npt.NDArray[Any]) -> Interactions:
        """Some of the interactions (a mask [n], or ascending positions), with the same codes."""
        return Interactions(
            users=self.users[kept], items=self.items[kept], user_count=self.user_count, item_count=self.item_count,
            rows=self.rows[kept], ratings=None if self.ratings is None else self.ratings[kept],
            times=None if self.times is None else self.times[kept],
            features=None if self.features is None else _rows_of(self.features, kept),
        )  # fmt: skip

    def table(self) -> pa.Table:
        """Columns user, item (codes), rating, timestamp and the further ones, where they are there; shares memory."""
        columns = {"user": self.users, "item": self.items, "rating": self.ratings, "timestamp": self.times}
        table = pa.table({name: pa.array(column) for name, column in columns.items() if column is not None})
        if self.features is not None:
            for name in self.features.column_names:
                table = table.append_column(name, self.features.column(name))
        return table


def _rows_of(table: pa.Table, kept: npt.NDArray[Any]) -> pa.Table:
    return table.filter(pa.array(kept)) if kept.dtype == bool else table.take(pa.array(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionData:
    """What a source holds: interactions, the ids behind the codes, and what is known of users and items.

    Args:
        users, items: the ids; as many as the interactions' user_count and item_count.
        user_features, item_features: tables with one row a code, or None.
        known_users: the trained run's code of each of `users` (-1: it has none), int32; None without a trained run.
        parts: 0 train, 1 valid, 2 test for each interaction, int8 [n], where the source names its splits.
        fingerprint: a hash of all that was read.
        notes: what a reader must know: counts of what was filtered, skipped or found odd.
    """

    interactions: Interactions
    users: IdMap
    items: IdMap
    user_features: FeatureTable | None = None
    item_features: FeatureTable | None = None
    known_users: Codes | None = None
    parts: npt.NDArray[np.int8] | None = None
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
