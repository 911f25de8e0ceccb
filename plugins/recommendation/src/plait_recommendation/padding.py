"""How do the histories and targets of many cases become arrays of one width?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case, RankingSplit

Rows = npt.NDArray[np.int64]


def recent(histories: Lists, length: int, *, padding: int, room: bool = False) -> tuple[Rows, Rows]:
    """The last items of each history, in the order of time and filled up on the right.

    Args:
        length: items at most; earlier ones are left out.
        padding: what rows are filled up with.
        room: leave a position free at the end of the longest row.

    Returns:
        int64 [histories, positions], at least one position, and how many items each row has, int64 [histories].
    """
    lengths = np.minimum(histories.sizes, length)
    widest = int(lengths.max(initial=0)) + room
    items = np.full((len(histories), max(widest, 1)), padding, np.int64)
    there = np.arange(items.shape[1]) < lengths[:, None]
    places = (histories.indptr[1:] - lengths)[:, None] + np.arange(items.shape[1])
    items[there] = histories.items[places[there]]
    return items, lengths.astype(np.int64)


def padded(rows: Sequence[npt.NDArray[np.int32]], value: int) -> Rows:
    """Rows of codes filled up on the right, int64 [rows, longest], at least one column."""
    items = np.full((len(rows), max((len(row) for row in rows), default=0) or 1), value, np.int64)
    for filled, row in zip(items, rows, strict=True):
        filled[: len(row)] = row
    return items


def first_targets(cases: Sequence[Case]) -> Rows | None:
    """Each case's first target, int64 [cases]; None where a case has none: a question, not an example."""
    if isinstance(cases, RankingSplit):
        targets = cases.targets
        return targets.items[targets.indptr[:-1]].astype(np.int64) if targets.sizes.all() else None
    if not all(len(case.targets) for case in cases):
        return None
    return np.array([case.targets[0] for case in cases], np.int64)
