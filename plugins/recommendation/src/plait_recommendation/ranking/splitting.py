"""Which events are learned from, which choose settings, and which are judged?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.errors import DataError
from plait.task import Splits
from plait_recommendation.interactions import InteractionData, Interactions, Lists
from plait_recommendation.ranking.cases import RankingSplit, RankingTrain
from plait_recommendation.wording import counted

How = Literal["leave-last-out", "global-time", "random", "users", "given", "held-out"]
Parts = npt.NDArray[np.int8]

TRAIN, VALID, TEST, VALID_HISTORY, TEST_HISTORY = range(5)
"""What an event is for. The last two are histories of users whom training does not see (split=users)."""
_NAMES = ("train", "valid", "test", "valid-history", "test-history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How events are divided. It knows no file.

    Args:
        how: leave-last-out: each user's last event is test, the last but one valid; global-time: the newest events of
            all are test, those before them valid; random: drawn; users: some users are held out as a whole, and judged
            on a part of their events given the rest; given: as the source says; held-out: nothing is learned, each
            user's last event is to be found from those before it.
        valid_fraction, test_fraction: of the events (of the users under users); not used by leave-last-out.
        seed: of what is drawn.
        mask_seen: whether items of the history must not be recommended; targets among them are then left out.
        refit: whether the parts say what closed forms are fitted on once more, train and valid together.
    """

    how: How
    valid_fraction: float
    test_fraction: float
    seed: int
    mask_seen: bool = True
    refit: bool = True

    def divide(self, data: InteractionData) -> tuple[Parts, list[str]]:
        """The part of each event, int8 [n], and notes."""
        events = data.interactions
        if self.how == "given":
            if data.parts is None:
                raise DataError("data.split=given, and the data name no splits",
                                hint="give a folder or mapping with train, valid and test")  # fmt: skip
            return self._given(data.parts)
        return {
            "leave-last-out": self._leave_last_out,
            "global-time": self._global_time,
            "random": self._random,
            "users": self._users,
            "held-out": self._held_out,
        }[self.how](events)

    def _given(self, parts: Parts) -> tuple[Parts, list[str]]:
        notes = ["the splits are as the data give them"]
        if (parts == VALID).any() or not self.valid_fraction:
            return parts, notes
        parts, train = parts.copy(), np.flatnonzero(parts == TRAIN)
        drawn = np.random.RandomState(self.seed).permutation(len(train))[: _count(len(train), self.valid_fraction)]
        parts[train[drawn]] = VALID
        return parts, [*notes, f"they have no valid: {len(drawn):,} train events are drawn for it"]

    def _held_out(self, events: Interactions) -> tuple[Parts, list[str]]:
        parts = np.full(len(events), TEST_HISTORY, np.int8)
        ends, sizes = events.indptr[1:], np.diff(events.indptr)
        parts[ends[sizes >= 2] - 1] = TEST
        notes = ["each user's last event is to be found from those before it (fold-in)"]
        if one := int((sizes == 1).sum()):
            notes.append(f"{counted(one, 'user has', 'users have')} one event: nothing is judged")
        return parts, notes

    def _leave_last_out(self, events: Interactions) -> tuple[Parts, list[str]]:
        parts = np.full(len(events), TRAIN, np.int8)
        ends, sizes = events.indptr[1:], np.diff(events.indptr)
        parts[ends[sizes >= 2] - 1] = TEST
        parts[ends[sizes >= 3] - 2] = VALID
        notes = []
        if one := int((sizes == 1).sum()):
            notes.append(f"{counted(one, 'user has', 'users have')} one event: it is train, and nothing is judged")
        if two := int((sizes == 2).sum()):
            notes.append(f"{counted(two, 'user has', 'users have')} two events: train and test, no valid")
        if events.times is None:
            notes.append("the data have no timestamp: the order of the file is taken for the order of time")
        last = ends[sizes >= 2] - 1
        if events.times is not None and (tied := int((events.times[last] == events.times[last - 1]).sum())):
            notes.append(
                f"{tied:,} of {counted(len(last), 'user', 'users')} with the last two events at one time: the order of "
                "the file decides"
            )
        return parts, notes

    def _global_time(self, events: Interactions) -> tuple[Parts, list[str]]:
        if events.times is None:
            raise DataError("data.split=global-time needs a timestamp", hint="name it: data.fields.timestamp=COLUMN")
        order = np.lexsort((events.rows, events.times))
        parts = self._cut(order)
        bounds = [order[np.searchsorted(parts[order], part)] for part in (VALID, TEST) if (parts == part).any()]
        tied = sum(int((events.times == events.times[at]).sum()) - 1 for at in bounds)
        said = ", ".join(str(events.times[at]) for at in bounds)
        notes = [f"global time: valid and test begin at {said}"]
        if tied:
            notes.append(
                f"{counted(tied, 'event shares', 'events share')} the time of a boundary: the order of the file decides"
            )
        return parts, notes

    def _random(self, events: Interactions) -> tuple[Parts, list[str]]:
        # over the rows of the file, so that the split does not depend on how events are kept; RandomState's stream is
        # frozen (NEP 19)
        drawn = np.random.RandomState(self.seed).permutation(len(events))
        by_row = np.argsort(events.rows, kind="stable")
        return self._cut(by_row[drawn]), []

    def _users(self, events: Interactions) -> tuple[Parts, list[str]]:
        random = np.random.RandomState(self.seed)
        sizes = np.diff(events.indptr)
        able = np.flatnonzero(sizes >= 2)
        drawn = able[random.permutation(len(able))]
        tests, valids = _count(len(able), self.test_fraction), _count(len(able), self.valid_fraction)
        parts = np.full(len(events), TRAIN, np.int8)
        for chosen, target, history in (
            (drawn[:tests], TEST, TEST_HISTORY),
            (drawn[tests : tests + valids], VALID, VALID_HISTORY),
        ):
            held = np.isin(events.users, chosen)
            rows = np.flatnonzero(held)
            parts[rows] = history
            # a fifth of each user's events, one at least, in an order drawn for all at once
            order = rows[np.lexsort((random.random_sample(len(rows)), events.users[rows]))]
            own = np.diff(np.searchsorted(events.users[rows], np.append(np.sort(chosen), events.user_count)))
            within = np.arange(len(rows)) - np.repeat(np.cumsum(own) - own, own)
            parts[order[within < np.repeat(np.maximum(1, own // 5), own)]] = target
        said = f"held out as a whole: {counted(tests, 'user', 'users')} for test, {valids:,} for valid"
        return parts, [f"{said}; a fifth of the events of each is to be found from the rest"]

    def _cut(self, order: npt.NDArray[np.int64]) -> Parts:
        """The last of an order are test, those before them valid."""
        n = len(order)
        test = n - _count(n, self.test_fraction)
        valid = test - _count(test, self.valid_fraction)
        parts = np.full(n, TRAIN, np.int8)
        parts[order[valid:test]], parts[order[test:]] = VALID, TEST
        return parts


def _count(n: int, fraction: float) -> int:
    return min(n - 1, max(1, n - int((1 - fraction) * n))) if fraction and n > 1 else 0


def make_splits(data: InteractionData, division: Division) -> Splits:
    """Train, valid and test of interactions, with notes on what cannot be judged.

    At test a user's history is train and valid; at valid it is train.
    """
    parts, notes = division.divide(data)
    events = data.interactions
    train = events.select(parts == TRAIN)
    if not len(train) and division.how != "held-out":
        raise DataError("no events are left to train on", hint="lower data.test_fraction, or give more data")
    judged = {}
    for name, part, histories in (
        ("valid", VALID, (TRAIN, VALID_HISTORY)),
        ("test", TEST, (TRAIN, VALID, TEST_HISTORY)),
    ):
        split = _judged(name, data, parts == part, np.isin(parts, histories), division, notes)
        if split is not None:
            judged[name] = split
    cold = (train.item_counts() == 0) & (events.select(parts != TRAIN).item_counts() > 0)
    if cold.any() and len(train):
        hit = int(cold[events.items[parts == TEST]].sum())
        notes.append(
            f"{counted(int(cold.sum()), 'item is', 'items are')} not in train; "
            f"{counted(hit, 'test event is', 'test events are')} with such"
        )
    refit = None
    if division.refit and "valid" in judged and (parts == TEST).any():
        refit = _train(data, events.select(np.isin(parts, (TRAIN, VALID, VALID_HISTORY))), division)
    return Splits(
        train=_train(data, train, division) if len(train) else None,
        valid=judged.get("valid"),
        test=judged.get("test"),
        refit=refit,
        fingerprint=data.fingerprint,
        index=_index(events, parts),
        notes=(*data.notes, *notes),
    )


def _train(data: InteractionData, events: Interactions, division: Division) -> RankingTrain:
    return RankingTrain(
        events, users=data.users, items=data.items, user_features=data.user_features, item_features=data.item_features,
        how=division.how,
    )  # fmt: skip


def _judged(
    name: str, data: InteractionData, targets: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_], division: Division,
    notes: list[str],
) -> RankingSplit | None:  # fmt: skip
    """One case for each user with targets."""
    events = data.interactions
    if division.mask_seen and targets.any():
        again = _repeated(events, targets, seen)
        if count := int(again.sum()):
            why = "which is not recommended again: left out (data.mask_seen=false keeps them)"
            notes.append(f"{name}: {counted(count, 'event repeats', 'events repeat')} an item of the history, {why}")
            targets = targets & ~again
    if not targets.any():
        return None
    wanted = Lists.of(events.users[targets], events.items[targets], events.user_count)
    known = Lists.of(events.users[seen], events.items[seen], events.user_count)
    rows = np.flatnonzero(wanted.sizes)
    if blank := int((known.sizes[rows] == 0).sum()):
        notes.append(
            f"{name}: {counted(blank, 'user has', 'users have')} no history: "
            "only what suits everybody can be recommended there"
        )
    codes = rows.astype(np.int32) if data.known_users is None else data.known_users[rows]
    ids = data.users.ids.take(pa.array(rows))
    return RankingSplit(
        users=codes, histories=known.take(rows), targets=wanted.take(rows), ids=ids, mask_seen=division.mask_seen
    )


def _repeated(
    events: Interactions, targets: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Targets whose item is in the same user's history, or among the user's earlier targets."""
    keys = events.users.astype(np.int64) * events.item_count + events.items
    at = np.flatnonzero(targets)
    order = at[np.argsort(keys[at], kind="stable")]
    again = np.zeros(len(keys), bool)
    again[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    again[at] |= np.isin(keys[at], keys[seen])
    return again


def _index(events: Interactions, parts: Parts) -> pa.Table:
    """The part of each event, by its row in what was read; nine bytes a row before Parquet packs them."""
    order = np.argsort(events.rows)
    names = pa.DictionaryArray.from_arrays(pa.array(parts[order]), pa.array(_NAMES))
    return pa.table({"id": pa.array(events.rows[order]), "split": names})
