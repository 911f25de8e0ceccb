"""Which small data do the tests of learned recommenders share?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plait_recommendation.features import FeatureTable
from plait_recommendation.ids import IdMap
from plait_recommendation.interactions import Interactions
from plait_recommendation.ranking.cases import Case, RankingTrain


def train_of(histories: Sequence[Sequence[int]], *, items: int, features: dict[str, Any] | None = None) -> RankingTrain:
    """A training split of histories of item codes; users are u0, u1, ..., items i0, i1, ..."""
    users = np.repeat(np.arange(len(histories), dtype=np.int32), [len(each) for each in histories])
    events = Interactions.of(
        users, np.array([item for each in histories for item in each], np.int32),
        user_count=len(histories), item_count=items,
    )  # fmt: skip
    table = None
    if features is not None:
        kinds = features.pop("kinds")
        table = FeatureTable(pa.table(features), kinds)
    return RankingTrain(
        events, users=IdMap(pa.array([f"u{each}" for each in range(len(histories))])),
        items=IdMap(pa.array([f"i{each}" for each in range(items)])), item_features=table,
    )  # fmt: skip


def problem_of(train: RankingTrain) -> dict[str, Any]:
    """What the ranking tasks tell a model of the data."""
    return {
        "items": train.items.as_json(), "users": train.users.as_json(),
        "counts": train.interactions.item_counts().tolist(), "cutoffs": [10, 20], "protocol": {},
    }  # fmt: skip


def asks(user: int = -1, history: Sequence[int] | None = None, **more: Any) -> Case:
    """A question of a user code, a history of item codes, or both."""
    return Case(user, None if history is None else np.array(history, np.int32), **more)


def cycles(users: int = 40, items: int = 12, events: int = 30) -> RankingTrain:
    """Users who walk round a circle of items, each from a place of their own: only the order tells what is next."""
    return train_of([[(user + step) % items for step in range(events)] for user in range(users)], items=items)
