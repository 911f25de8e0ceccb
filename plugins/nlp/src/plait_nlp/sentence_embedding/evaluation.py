"""How often is the text that belongs to a text found among all of a split, by their vectors?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.examples import TextExample
from plait_registry.specs import Metric

_AT = (1, 5, 10)
_ROWS = 1024  # rows of the table of similarities that are computed at a time
_SHOWN = 120  # characters


class RetrievalEvaluator(Evaluator):
    """Ranks the pairs of a split by their similarity to each text.

    Metrics: `mrr`, the mean reciprocal rank of the text's own pair, and `recall@1`, `recall@5`, `recall@10`, how often
    it is that near.

    Pairs with the same words as the text's own are as good as it; equals that are others come first, so that a model
    whose vectors are all the same finds nothing.
    """

    def __init__(self) -> None:
        self.primary = Metric("mrr", True)
        self._rows = [_encode([], np.zeros((0, 1)), np.zeros((0, 1)), [], [])]
        self._ranked: pa.Table | None = None

    def update(self, predictions: Sequence[Any], examples: Sequence[TextExample]) -> None:
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        for each, prediction in zip(examples, predictions, strict=True):
            if each.pair is None or prediction.pair is None:
                raise DataError(f"{each.id}: has no pair that could be found", hint="evaluate on pairs of texts")
        if examples:
            texts, pairs = (np.stack([getattr(each, side) for each in predictions]) for side in ("text", "pair"))
            shown, other = [each.text for each in examples], [each.pair or "" for each in examples]
            self._rows.append(_encode([each.id for each in examples], texts, pairs, shown, other))
            self._ranked = None

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(pa.concat_tables(self._rows), engine)]

    def table(self) -> pa.Table:
        """One row an example: `id`, `rank` (from 1) of its pair, beginnings of `text`, `pair`, and the one `found`."""
        if self._ranked is None:
            self._ranked = _rank(pa.concat_tables(self._rows).combine_chunks())
        return self._ranked

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        found: Floats = weights @ (1 / table["rank"].to_numpy()) / weights.sum(axis=1)
        return found

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        rank = table["rank"].to_numpy()
        return {"mrr": float((1 / rank).mean()), **{f"recall@{most}": float((rank <= most).mean()) for most in _AT}}

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        worst = np.argsort(-table["rank"].to_numpy(), kind="stable")[:15].tolist()
        names = ("rank", "text", "pair", "found")
        columns = [table[name].to_pylist() for name in names]
        rows = tuple(tuple(column[index] for column in columns) for index in worst)
        return [Section("Worst examples", f"Ranks are among {len(table)} texts.", Table(names, rows))]


def _encode(ids: list[str], texts: Any, pairs: Any, shown: list[str], other: list[str]) -> pa.Table:
    vectors = {
        name: pa.array(list(np.asarray(each, np.float32)), pa.list_(pa.float32()))
        for name, each in (("text_vector", texts), ("pair_vector", pairs))
    }
    words = {name: pa.array([each.encode("utf-8", "replace").decode() for each in column], pa.string())
             for name, column in (("text", shown), ("pair", other))}  # fmt: skip
    return pa.table({"id": pa.array(ids, pa.string()), **vectors, **words})


def _rank(table: pa.Table) -> pa.Table:
    count = len(table)
    ranks, best = np.ones(count, np.int64), np.zeros(count, np.int64)
    if count:
        texts, pairs = (np.stack(table[name].to_numpy(zero_copy_only=False)) for name in ("text_vector", "pair_vector"))
        same = np.unique(np.array(table["pair"].to_pylist(), dtype=object).astype(str), return_inverse=True)[1]
        for first in range(0, count, _ROWS):
            part = slice(first, min(first + _ROWS, count))
            scores: npt.NDArray[np.float32] = texts[part] @ pairs.T
            rows = np.arange(part.start, part.stop)
            own = scores[rows - first, rows][:, None]
            others = same[None, :] != same[rows][:, None]
            ranks[part] = 1 + ((scores >= own) & others).sum(axis=1)
            best[part] = scores.argmax(axis=1)
    shown = {name: [" ".join(each.split())[:_SHOWN] for each in table[name].to_pylist()] for name in ("text", "pair")}
    columns = {
        "id": table["id"],
        "rank": pa.array(ranks),
        **{name: pa.array(each, pa.string()) for name, each in shown.items()},
    }
    return pa.table({**columns, "found": pa.array([shown["pair"][index] for index in best], pa.string())})
