"""How good are rankings, for the users and over the catalogue?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.bootstrap import Floats
from plait.evaluation import Evaluator, gather_table
from plait_recommendation.ids import UNKNOWN, Codes
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case, Ranking, RankingSplit
from plait_recommendation.ranking.topk import Rankings
from plait_registry.specs import Metric

if TYPE_CHECKING:
    from plait.engine.base import Engine
    from plait.report import Section

PRIMARY = Metric("ndcg@10", True)
Hits = npt.NDArray[np.bool_]


class RankingEvaluator(Evaluator):
    """Judges rankings of the whole catalogue against each user's targets. It knows no model and draws no sample.

    Metrics at each cutoff k, means over users, with n targets of a user:

    - `ndcg`: the sum of 1 / log2(1 + rank) over hits, by that of min(k, n) hits at the top (Järvelin and Kekäläinen
      2002, binary gains);
    - `recall`: hits / n; `precision`: hits / k; `hr`: 1 where there is a hit; `mrr`: 1 / rank of the first hit, 0
      beyond k; `map`: the mean of precision at each hit, by min(k, n);
    - `coverage`: items that are given to anybody, by the catalogue; `gini`: how unequally items are given, over the
      catalogue, 0 (all alike) to 1; `novelty`: mean -log2 of an item's share of the training events, in bits (an item
      without any counts as one event); `popularity`: mean number of training events of what is given.

    A ranking that is shorter than k has no hit in the places that it leaves.

    Args:
        counts: training events of each item, [items].
        cutoffs: k; 10 is among them.
        protocol: how the cases were made, for the report.
    """

    def __init__(
        self, counts: Sequence[int] | npt.NDArray[Any], *, cutoffs: Sequence[int] = (10, 20),
        protocol: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.primary = PRIMARY
        self._counts = np.asarray(counts, np.int64)
        self._cutoffs = sorted(cutoffs)
        self._protocol = dict(protocol or {})
        self._rows: list[_Judged] = []

    def update(self, predictions: Sequence[Ranking], examples: Sequence[Case]) -> None:
        """Take in rankings and their cases: columns (`Rankings`, `RankingSplit`), or objects.

        Raises:
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        if not len(examples):
            return
        depth = self._cutoffs[-1]
        if isinstance(examples, RankingSplit):
            targets, ids, histories = examples.targets, examples.ids.cast(pa.string()), examples.histories.sizes
        else:
            targets = _joined([each.targets for each in examples])
            ids = pa.array([each.id for each in examples], pa.string())
            histories = np.array([0 if each.history is None else len(each.history) for each in examples])
        items = _items(predictions, depth)
        self._rows.append(
            _Judged(ids, targets.sizes.astype(np.int32), histories.astype(np.int32), items, find(items, targets))
        )

    def reduce(self, engine: Engine) -> None:
        self._rows = [_Judged.of(gather_table(self.table(), engine), self._cutoffs[-1])]

    def compute(self) -> dict[str, float]:
        rows = self._all()
        if not len(rows.ids):
            return {}
        found: dict[str, float] = {}
        for k in self._cutoffs:
            found |= {f"{name}@{k}": float(values.mean()) for name, values in by_user(rows.hits, rows.sizes, k).items()}
            found |= {f"{name}@{k}": value for name, value in over_items(rows.items[:, :k], self._counts).items()}
        return found

    def table(self) -> pa.Table:
        """One row a user: `id`, `targets` (how many), `history` (its length), `ndcg@10`, `hits` and `items` (codes, -1
        for none), both fixed-size lists of the largest cutoff."""
        rows = self._all()
        depth = self._cutoffs[-1]
        return pa.table({
            "id": rows.ids, "targets": pa.array(rows.sizes), "history": pa.array(rows.histories),
            PRIMARY.name: pa.array(by_user(rows.hits, rows.sizes, 10)["ndcg"]),
            "hits": pa.FixedSizeListArray.from_arrays(pa.array(rows.hits.reshape(-1)), depth),
            "items": pa.FixedSizeListArray.from_arrays(pa.array(rows.items.reshape(-1)), depth),
        })  # fmt: skip

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        values = table[PRIMARY.name].to_numpy()
        means: Floats = weights @ values / weights.sum(axis=1)
        return means

    def details(self) -> dict[str, Any]:
        """The protocol, and NDCG@10 by length of the history."""
        return {"protocol": self._protocol, "by_history": self._by_history()}

    def sections(self) -> list[Section]:
        from plait.report import Section, Table

        said = "; ".join(f"{name} {value}" for name, value in self._protocol.items())
        found = [Section("Protocol", f"Every item of the catalogue is ranked for every user. {said}.")]
        if groups := self._by_history():
            rows = tuple((each["history"], each["users"], each["ndcg@10"]) for each in groups)
            text = "Users in four groups of about one size, by how many events their history has."
            found.append(Section("By length of history", text, Table(("events", "users", "NDCG@10"), rows)))
        return found

    def _by_history(self) -> list[dict[str, Any]]:
        rows = self._all()
        if len(rows.ids) < 8:
            return []
        values = by_user(rows.hits, rows.sizes, 10)["ndcg"]
        bounds = np.unique(np.quantile(rows.histories, [0.25, 0.5, 0.75], method="lower"))
        group = np.searchsorted(bounds, rows.histories)
        found = []
        for each in np.unique(group):
            own = group == each
            low, high = rows.histories[own].min(), rows.histories[own].max()
            found.append({"history": f"{low} to {high}", "users": int(own.sum()), "ndcg@10": float(values[own].mean())})
        return found

    def _all(self) -> _Judged:
        if len(self._rows) != 1:
            self._rows = [_Judged.joined(self._rows, self._cutoffs[-1])]
        return self._rows[0]


@dataclass(frozen=True, slots=True)
class _Judged:
    """Judged users as columns: ids, numbers of targets, lengths of histories [n], items and hits [n, depth]."""

    ids: pa.Array
    sizes: npt.NDArray[np.int32]
    histories: npt.NDArray[np.int32]
    items: Codes
    hits: Hits

    @classmethod
    def joined(cls, parts: Sequence[_Judged], depth: int) -> _Judged:
        none = cls(
            pa.array([], pa.string()), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, depth), np.int32),
            np.zeros((0, depth), bool),
        )  # fmt: skip
        parts = [none, *parts]
        numbers = (np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__[1:])
        return cls(pa.concat_arrays([part.ids for part in parts]), *numbers)

    @classmethod
    def of(cls, table: pa.Table, depth: int) -> _Judged:
        table = table.combine_chunks()
        ids = table["id"].chunk(0) if table["id"].num_chunks else pa.array([], pa.string())
        flat = {
            name: pa.concat_arrays([each.flatten() for each in table[name].chunks] or [pa.array([], kind)])
            for name, kind in (("items", pa.int32()), ("hits", pa.bool_()))
        }
        items, hits = (flat[name].to_numpy(zero_copy_only=False).reshape(-1, depth) for name in ("items", "hits"))
        return cls(ids, table["targets"].to_numpy(), table["history"].to_numpy(), items, hits)


def find(items: Codes, targets: Lists) -> Hits:
    """Which places hold a target.

    Args:
        items: codes, -1 for none, int32 [users, k].
        targets: one list a user.

    Returns:
        [users, k].
    """
    if (targets.sizes == 1).all():
        single: Hits = items == targets.items[:, None]
        return single
    width = int(max(items.max(initial=0), targets.items.max(initial=0))) + 2
    wanted = np.sort(targets.rows().astype(np.int64) * width + targets.items)
    if not len(wanted):
        return np.zeros(items.shape, bool)
    given = np.arange(len(items))[:, None] * width + np.where(items == UNKNOWN, width - 1, items)
    at = np.searchsorted(wanted, given.reshape(-1))
    hits: Hits = (wanted[np.minimum(at, len(wanted) - 1)] == given.reshape(-1)).reshape(items.shape)
    return hits


def by_user(hits: Hits, sizes: npt.NDArray[Any], k: int) -> dict[str, Floats]:
    """The metrics of each user at cutoff k, float64 [users].

    Args:
        hits: [users, k or more], in the order of the ranking.
        sizes: how many targets each user has, [users], not 0.
    """
    hits = hits[:, :k]
    ranks = np.arange(1, hits.shape[1] + 1)
    gains = 1 / np.log2(1 + np.arange(1, k + 1))
    best = np.minimum(sizes, k)
    ideal = np.cumsum(gains)[best - 1]
    found = hits.sum(axis=1)
    first = np.where(found > 0, hits.argmax(axis=1) + 1, 1)
    precisions = (hits * (np.cumsum(hits, axis=1) / ranks)).sum(axis=1)
    return {
        "ndcg": (hits @ gains[: hits.shape[1]]) / ideal,
        "recall": found / sizes,
        "precision": found / k,
        "hr": (found > 0).astype(np.float64),
        "mrr": np.where(found > 0, 1 / first, 0.0),
        "map": precisions / best,
    }


def over_items(items: Codes, counts: npt.NDArray[np.int64]) -> dict[str, float]:
    """What the rankings of all users do to the catalogue: coverage, gini, novelty (bits), popularity (events).

    Args:
        items: codes, -1 for none, int32 [users, k].
        counts: training events of each item, [items].
    """
    given = items[items != UNKNOWN]
    if not len(given) or not len(counts):
        return {"coverage": 0.0, "gini": 0.0, "novelty": 0.0, "popularity": 0.0}
    exposure = np.bincount(given, minlength=len(counts)).astype(np.float64)
    size = len(exposure)
    rising = np.sort(exposure)
    gini = 2 * float(np.arange(1, size + 1) @ rising) / (size * rising.sum()) - (size + 1) / size
    bits = -np.log2(np.maximum(counts, 1) / max(1, int(counts.sum())))
    share = exposure / exposure.sum()
    return {
        "coverage": float((exposure > 0).mean()), "gini": float(gini), "novelty": float(share @ bits),
        "popularity": float(share @ counts),
    }  # fmt: skip


def _items(predictions: Sequence[Ranking], depth: int) -> Codes:
    if isinstance(predictions, Rankings):
        found = predictions.items[:, :depth]
        return found if found.shape[1] == depth else _padded(list(found), depth)
    return _padded([each.items[:depth] for each in predictions], depth)


def _padded(rows: Sequence[Codes], depth: int) -> Codes:
    items = np.full((len(rows), depth), UNKNOWN, np.int32)
    for row, each in enumerate(rows):
        items[row, : len(each)] = each
    return items


def _joined(parts: Sequence[Codes]) -> Lists:
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(each) for each in parts], dtype=np.int64)])
    return Lists(indptr, np.concatenate(parts) if parts else np.zeros(0, np.int32))
