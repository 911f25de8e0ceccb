"""How are classes, labels and numbers of texts judged, and which texts does a report show?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import ClassificationEvaluator, ClassPrediction, Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.examples import TextExample
from plait_nlp.text_classification.predictions import LabelSetPrediction, NumberPrediction
from plait_registry.specs import Metric

SHOWN = 160  # characters of a text in a report
_WORST = 15


class TextClassEvaluator(ClassificationEvaluator):
    """`ClassificationEvaluator` with Matthews' correlation, and with texts: a report shows the worst, and accuracy by
    length.

    Metrics beyond it: `f1_micro` (of one class an example it is the accuracy) and `mcc`, Gorodkin's (2004) correlation
    for several classes.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self._texts: list[str] = []
        self._sizes: list[int] = []

    def update(self, predictions: Sequence[ClassPrediction], examples: Sequence[TextExample]) -> None:
        super().update(predictions, examples)
        self._texts += [snippet(each) for each in examples]
        self._sizes += [each.size for each in examples]

    def table(self) -> pa.Table:
        """As `ClassificationEvaluator`, and `characters` and the beginning of the `text`."""
        table = super().table()
        if "text" in table.column_names:
            return table
        return table.append_column("characters", pa.array(self._sizes, pa.int64())).append_column(
            "text", pa.array(self._texts, pa.string())
        )

    def compute(self) -> dict[str, float]:
        found = super().compute()
        if not found:
            return found
        return {**found, "f1_micro": found["accuracy"], "mcc": matthews(np.array(self._cells()))}

    def _cells(self) -> npt.NDArray[np.int64]:
        """Counts [targets, predictions]."""
        size, table = len(self.labels), self.table()
        index = {label: position for position, label in enumerate(self.labels)}
        cells = np.zeros((size, size), np.int64)
        for target, chosen in zip(table["target"].to_pylist(), table["prediction"].to_pylist(), strict=True):
            if chosen is not None:
                cells[index[target], index[chosen]] += 1
        return cells

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        return [*super().sections(), *self._slices(table), worst_section(table, "nll", ("target", "prediction"))]

    def _slices(self, table: pa.Table) -> list[Section]:
        sizes, correct = table["characters"].to_numpy(), table["correct"].to_numpy().astype(float)
        edges = np.unique(np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1]).astype(int))
        if len(edges) < 3:
            return []
        rows = []
        for low, high in pairwise(edges.tolist()):
            inside = (sizes >= low) & ((sizes < high) | (high == edges[-1]))
            if inside.any():
                rows.append((f"{low} to {high}", float(correct[inside].mean()), int(inside.sum())))
        return [Section("By length", "", Table(("characters", "accuracy", "examples"), tuple(rows)))]


def matthews(cells: npt.NDArray[np.int64]) -> float:
    """Correlation of targets and predictions from counts [targets, predictions]; 0 where either is constant."""
    total, right = float(cells.sum()), float(np.trace(cells))
    targets, chosen = cells.sum(1).astype(float), cells.sum(0).astype(float)
    below = np.sqrt((total**2 - chosen @ chosen) * (total**2 - targets @ targets))
    return float((right * total - chosen @ targets) / below) if below else 0.0


def snippet(example: TextExample) -> str:
    """The beginning of a text (and its pair), on one line, for a report."""
    text = " ".join(example.text.split())
    text = text if example.pair is None else f"{text} || {' '.join(example.pair.split())}"
    short = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return short.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no UTF-8


def worst_section(table: pa.Table, by: str, names: tuple[str, ...]) -> Section:
    """The examples with the largest value in a column."""
    order = np.argsort(-np.nan_to_num(table[by].to_numpy(), nan=np.inf), kind="stable")[:_WORST]
    columns = [table[name].to_pylist() for name in ("id", *names, by, "text")]
    rows = tuple(tuple(column[index] for column in columns) for index in order.tolist())
    return Section("Worst examples", "", Table(("id", *names, by, "text"), rows))


class LabelSetEvaluator(Evaluator):
    """Judges sets of labels. Metrics: `f1_micro`, `precision_micro`, `recall_micro` over all decisions; `f1_macro` over
    the labels that targets or predictions hold; `accuracy`, the part of texts whose set is exactly right.

    Args:
        labels: in the order of the probabilities; one counts as predicted from a probability of a half.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.primary = Metric("f1_micro", True)
        self.labels = list(labels)
        self._index = {label: position for position, label in enumerate(self.labels)}
        self._rows: list[pa.Table] = [self._encode([], [], [], [])]

    def update(self, predictions: Sequence[LabelSetPrediction], examples: Sequence[TextExample]) -> None:
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        targets = []
        for each in examples:
            if each.label is None or any(label not in self._index for label in each.label):
                raise DataError(f"{each.id}: its labels {each.label!r} are not those that the model knows")
            targets.append(sorted(self._index[label] for label in each.label))
        chosen = [np.flatnonzero(each.probabilities >= 0.5).tolist() for each in predictions]
        self._rows.append(
            self._encode([each.id for each in examples], targets, chosen, [snippet(each) for each in examples])
        )

    def _encode(self, ids: list[str], targets: list[list[int]], chosen: list[list[int]], texts: list[str]) -> pa.Table:
        hits = [len(set(one) & set(other)) for one, other in zip(targets, chosen, strict=True)]
        columns = {"id": pa.array(ids, pa.string())}
        for name, sets in (("target", targets), ("prediction", chosen)):
            columns[name] = pa.array([[self.labels[index] for index in each] for each in sets], pa.list_(pa.string()))
        columns["hits"] = pa.array(hits, pa.int64())
        columns["errors"] = pa.array(
            [len(one) + len(other) - 2 * hit for one, other, hit in zip(targets, chosen, hits, strict=True)], pa.int64()
        )
        return pa.table(columns | {"text": pa.array(texts, pa.string())})

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row an example: `id`, `target` and `prediction` (lists), `hits`, `errors`, the beginning of `text`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        hits, errors = (weights @ table[name].to_numpy().astype(float) for name in ("hits", "errors"))
        found: Floats = np.where(hits + errors > 0, 2 * hits / np.maximum(2 * hits + errors, 1e-12), 1.0)
        return found

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        rows = self._label_rows()
        hits, chosen, targets = np.array([row[1:] for row in rows], dtype=float).sum(axis=0).tolist()
        scores = [2 * row[1] / (row[2] + row[3]) for row in rows if row[2] + row[3]]
        return {
            "f1_micro": float(self.measure(table, np.ones((1, len(table))))[0]),
            "precision_micro": hits / chosen if chosen else 0.0,
            "recall_micro": hits / targets if targets else 0.0,
            "f1_macro": float(np.mean(scores)) if scores else 1.0,
            "accuracy": float((table["errors"].to_numpy() == 0).mean()),
        }

    def _label_rows(self) -> list[tuple[str, int, int, int]]:
        """For each label: its hits, how often it was predicted, how often it was right to."""
        counts = {label: [0, 0, 0] for label in self.labels}
        for target, chosen in zip(
            self.table()["target"].to_pylist(), self.table()["prediction"].to_pylist(), strict=True
        ):
            for label in chosen:
                counts[label][0] += label in target
                counts[label][1] += 1
            for label in target:
                counts[label][2] += 1
        return [(label, hits, chosen, targets) for label, (hits, chosen, targets) in counts.items()]

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        rows = tuple(
            (label, hits / chosen if chosen else None, hits / targets if targets else None, targets)
            for label, hits, chosen, targets in self._label_rows()
        )
        shown = table.set_column(1, "target", pa.array([", ".join(each) for each in table["target"].to_pylist()]))
        shown = shown.set_column(
            2, "prediction", pa.array([", ".join(each) for each in table["prediction"].to_pylist()])
        )
        per_label = Section("Labels", "", Table(("label", "precision", "recall", "examples"), rows))
        return [per_label, worst_section(shown, "errors", ("target", "prediction"))]


class NumberEvaluator(Evaluator):
    """Judges numbers. Metrics: `spearman`, the correlation of ranks (ties share theirs), `pearson`, `mae`, `rmse`."""

    def __init__(self) -> None:
        self.primary = Metric("spearman", True)
        self._rows = [pa.table({"id": pa.array([], pa.string()), "target": pa.array([], pa.float64()),
                                "prediction": pa.array([], pa.float64()), "error": pa.array([], pa.float64()),
                                "text": pa.array([], pa.string())})]  # fmt: skip

    def update(self, predictions: Sequence[NumberPrediction], examples: Sequence[TextExample]) -> None:
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        for each in examples:
            if each.label is None:
                raise DataError(f"{each.id}: has no number to judge a prediction by", hint="evaluate on labelled data")
        target = np.array([each.label for each in examples], dtype=float)
        found = np.array([each.value for each in predictions], dtype=float)
        columns: Mapping[str, Any] = {"target": target, "prediction": found, "error": np.abs(target - found)}
        ids, texts = [each.id for each in examples], [snippet(each) for each in examples]
        self._rows.append(pa.table({"id": pa.array(ids, pa.string()), **columns, "text": pa.array(texts, pa.string())}))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row an example: `id`, `target`, `prediction`, the absolute `error`, the beginning of the `text`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        one, other = table["target"].to_numpy(), table["prediction"].to_numpy()
        return np.array([correlation(ranks(one, row), ranks(other, row), row) for row in weights])

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        once = np.ones((1, len(table)))
        target, found = table["target"].to_numpy(), table["prediction"].to_numpy()
        return {
            "spearman": float(self.measure(table, once)[0]),
            "pearson": correlation(target, found, once[0]),
            "mae": float(np.abs(target - found).mean()),
            "rmse": float(np.sqrt(np.square(target - found).mean())),
        }

    def sections(self) -> list[Section]:
        return [worst_section(self.table(), "error", ("target", "prediction"))] if len(self.table()) else []


def ranks(values: Floats, weights: Floats) -> Floats:
    """The rank of each value among all, each counted as often as its weight says; equals share the mean of theirs."""
    _, group = np.unique(values, return_inverse=True)
    counts = np.bincount(group, weights)
    found: Floats = (np.cumsum(counts) - counts + (counts + 1) / 2)[group]
    return found


def correlation(one: Floats, other: Floats, weights: Floats) -> float:
    """Pearson's, under weights; 0 where either is constant."""
    total = weights.sum()
    one, other = one - weights @ one / total, other - weights @ other / total
    below = np.sqrt((weights @ np.square(one)) * (weights @ np.square(other)))
    return float(weights @ (one * other) / below) if below > 0 else 0.0
