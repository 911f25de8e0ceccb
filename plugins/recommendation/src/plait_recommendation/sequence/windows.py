"""Which stretches of which histories does a sequence model learn from, one after another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plait.model import Key
from plait.randomness import uniforms
from plait_recommendation.ids import Codes
from plait_recommendation.ranking.cases import RankingTrain


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One stretch of a user's history.

    Args:
        user: code.
        history: all that the user did, item codes in the order of time, int32 [events].
        number: which of the user's windows, from 0.
    """

    user: int
    history: Codes
    number: int


class Windows(Sequence[Window]):
    """Every user's history cut into windows of `length` steps at most from one item to the next: what an epoch visits.

    A user with n steps has ceil(n / length) windows, which hold each step exactly once. Users with a single event have
    no step and no window. It knows no randomness.

    Args:
        train: the histories.
        length: steps of a window.
    """

    in_memory = True

    def __init__(self, train: RankingTrain, *, length: int) -> None:
        self._histories = train.histories
        steps = np.maximum(self._histories.sizes - 1, 0)
        counts = -(-steps // length)
        self._users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        first = np.cumsum(counts) - counts
        self._numbers = np.arange(len(self._users)) - first[self._users]

    def __len__(self) -> int:
        return len(self._users)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        user = int(self._users[index])
        return Window(user, self._histories[user], int(self._numbers[index]))


def cuts(windows: Sequence[Window], *, length: int, shifts: npt.NDArray[np.float64]) -> list[Codes]:
    """The items of each window: between 2 and `length` + 1 of them.

    A user's windows lie end to end over n steps and are longer than them by some slack; they are moved to the left by
    a part of it, so that every step stays in exactly one window and the cuts fall elsewhere in each epoch. One window
    more, with cuts anywhere, cost a fifth more steps and was no better on MovieLens-100k (NDCG@10 on valid .123 and
    .120, on test .100 and .102, three seeds each).

    Args:
        shifts: the part of the slack, in [0, 1), the same for all windows of a user, float64 [windows].
    """
    found = []
    for window, shift in zip(windows, shifts, strict=True):
        steps = len(window.history) - 1
        slack = -steps % length
        start = window.number * length - int(shift * (slack + 1))
        found.append(window.history[max(start, 0) : min(start + length, steps) + 1])
    return found


def shifts(windows: Sequence[Window], keys: Sequence[Key]) -> npt.NDArray[np.float64]:
    """Each window's shift in its epoch, [windows]: drawn for the user, so that the user's windows fit together."""
    return uniforms([Key(key.seed, key.epoch, window.user) for window, key in zip(windows, keys, strict=True)], 1)[:, 0]
