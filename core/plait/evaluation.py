"""How are predictions judged: which numbers, how sure are they, and is one run better than another?"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plait.bootstrap import Comparison, Floats, Interval, Measure, compare, interval
from plait.errors import DataError, did_you_mean
from plait_registry.specs import Metric

if TYPE_CHECKING:
    from plait.engine.base import Engine
    from plait.report import Section

ACCURACY = Metric("accuracy", True)


class Evaluator(ABC):
    """Judges the predictions of one split. It knows no model, device or file.

    Every rank updates its own evaluator with one contiguous part of the split (`share` says which), `reduce` joins the
    parts in rank order, and so metrics are equal, bit for bit, on any number of processes.
    """

    primary: Metric | None

    @abstractmethod
    def update(self, predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        """Take in predictions and the examples that they are for; both may be empty."""

    @abstractmethod
    def reduce(self, engine: Engine) -> None:
        """Take in what the other ranks saw, in the split's order. Called once, on every rank."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Metrics by name, fractions between 0 and 1 where the metric is one; {} where there was no example."""

    @abstractmethod
    def table(self) -> pa.Table:
        """One row an example, in the split's order: `id`, and whatever `measure` needs; saved in the run."""

    @abstractmethod
    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        """The primary metric of `table` (this evaluator's or another run's) under example weights.

        Args:
            weights: [replicates, examples], not negative; a row of ones gives the plain metric.

        Returns:
            [replicates].
        """

    def speed(self, seconds: float) -> dict[str, float]:
        """Numbers that depend on the machine, such as a real-time factor, which `plait evaluate` shows beside the
        metrics; never compared, logged or saved.

        Args:
            seconds: processor time of reading, predicting and judging the split.
        """
        return {}

    def sections(self) -> list[Section]:
        """What a report shows beside the numbers."""
        return []

    def details(self) -> dict[str, Any]:
        """More than single numbers, as JSON values: a confusion matrix, numbers for each class."""
        return {}


def share(length: int, *, rank: int, world_size: int) -> range:
    """The positions of a split that a rank judges: contiguous, in rank order, sizes differing by one at most."""
    return range(length * rank // world_size, length * (rank + 1) // world_size)


def gather_table(table: pa.Table, engine: Engine) -> pa.Table:
    """The tables of all ranks, joined in rank order, on every rank."""
    if engine.world_size == 1:
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    # an engine gathers JSON values; Arrow's own bytes keep types, floats and NaN exactly
    parts = engine.gather(base64.b64encode(sink.getvalue()).decode("ascii"))
    return pa.concat_tables(pa.ipc.open_stream(base64.b64decode(part)).read_all() for part in parts)


@dataclass(frozen=True, slots=True)
class ClassPrediction:
    """How probable each class is.

    Args:
        probabilities: [classes], sums to 1, in the order of the problem's labels.
        embedding: [width], what the model makes of the example before it decides, by which examples of classes that it
            never saw can be compared; None where the model has none.
    """

    probabilities: npt.NDArray[np.floating[Any]]
    embedding: npt.NDArray[np.floating[Any]] | None = None

    @property
    def index(self) -> int:
        """The most probable class; the first of equals."""
        return int(np.argmax(self.probabilities))


class ClassificationEvaluator(Evaluator):
    """Judges one label an example. Examples have `id` and `label`, predictions are `ClassPrediction`.

    It keeps five numbers an example, never probabilities [examples, classes], and does
    not know what was classified.

    Metrics: `accuracy`; `top5_accuracy` where there are more than five classes; `precision_macro`, `recall_macro` (also
    called balanced accuracy, or UAR) and `f1_macro`, averaged over the classes that the split's targets hold, where a
    class that is never predicted has precision 0; `calibration_error`; `log_loss` in nats.

    Args:
        labels: the label names, in the order of the probabilities.
        primary: the metric that picks the best checkpoint and that `measure` measures.
    """

    def __init__(self, labels: Sequence[str], *, primary: Metric = ACCURACY) -> None:
        self.labels = list(labels)
        self.primary = primary
        names = [name for name in _METRICS if name != "top5_accuracy" or len(self.labels) > 5]
        if primary.name not in names:
            raise ValueError(f"no metric {primary.name!r} for {len(self.labels)} classes; there are {', '.join(names)}")
        self._names = names
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._dictionary = pa.array(self.labels, pa.string())
        self._rows = [self._encode([], *(np.zeros(0, dtype) for dtype in (int, int, float, bool, float)))]

    def update(self, predictions: Sequence[ClassPrediction], examples: Sequence[Any]) -> None:
        """Take in predictions and the examples that they are for.

        Raises:
            DataError: an example has no label, or one that the problem lacks.
            ValueError: lengths differ, or a prediction has another number of classes.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        if not examples:
            return
        probabilities = np.stack([prediction.probabilities for prediction in predictions]).astype(np.float64)
        if probabilities.shape != (len(examples), len(self.labels)):
            raise ValueError(f"{list(probabilities.shape[1:])} probabilities for {len(self.labels)} labels")
        target = np.array([self._target(example) for example in examples])
        decided = np.isfinite(probabilities).all(axis=1)  # NaN has no largest class: it counts as a wrong answer
        chosen = np.where(decided, probabilities.argmax(axis=1), -1)
        confidence = np.where(decided, probabilities.max(axis=1), np.nan)
        wanted = probabilities[np.arange(len(target)), target][:, None]
        # equals go to the lower index, as argmax has it, so that constant probabilities are not all in the top five
        tied = (probabilities == wanted) & (np.arange(len(self.labels)) < target[:, None])
        top5 = decided & (((probabilities > wanted) | tied).sum(axis=1) < 5)
        nll = np.where(decided, -np.log(np.clip(wanted[:, 0], _SMALLEST, 1.0)), np.nan)
        self._rows.append(self._encode([example.id for example in examples], target, chosen, confidence, top5, nll))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        columns, once = _Columns.of(table), np.ones((1, len(table)))
        return {name: float(_METRICS[name](columns, once)[0]) for name in self._names}

    def table(self) -> pa.Table:
        """One row an example: `id`, `target`, `prediction` (null where probabilities were not finite), `correct`,
        `confidence`, `top5` (the target is among the five most probable), `nll` (nats)."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        assert self.primary is not None
        return _METRICS[self.primary.name](_Columns.of(table), weights)

    def details(self) -> dict[str, Any]:
        """The labels; `per_class` numbers; `confused`, the twenty most frequent mistakes; `confusion`, counts [targets,
        predictions] (null above a hundred classes); `undecided`, examples without finite probabilities.
        """
        target, prediction = (_encoded(self.table()[name]) for name in ("target", "prediction"))
        wanted, chosen = target.indices.to_numpy(), prediction.indices.fill_null(-1).to_numpy()
        size, decided = len(self.labels), chosen >= 0
        cells, counts = np.unique(wanted[decided].astype(np.int64) * size + chosen[decided], return_counts=True)
        confusion = None
        if size <= _MOST_CLASSES:
            confusion = np.zeros(size * size, np.int64)
            confusion[cells] = counts
        rows, columns = np.divmod(cells, size)
        wrong = np.flatnonzero(rows != columns)
        worst = wrong[np.argsort(-counts[wrong], kind="stable")][:20]
        hits = np.zeros(size, np.int64)
        hits[rows[rows == columns]] = counts[rows == columns]
        predicted, targets = np.bincount(chosen[decided], minlength=size), np.bincount(wanted, minlength=size)
        return {
            "labels": list(self.labels),
            "per_class": [_class_numbers(*each) for each in zip(self.labels, hits, predicted, targets, strict=True)],
            "confused": [[self.labels[rows[each]], self.labels[columns[each]], int(counts[each])] for each in worst],
            "confusion": None if confusion is None else confusion.reshape(size, size).tolist(),
            "undecided": int((~decided).sum()),
        }

    def sections(self) -> list[Section]:
        return _classification_sections(self.table(), self.details()) if len(self.table()) else []

    def _target(self, example: Any) -> int:
        if example.label is None:
            raise DataError(f"{example.id}: has no label to judge a prediction by", hint="evaluate on labelled data")
        if example.label not in self._index:
            raise DataError(
                f"{example.id}: label {example.label!r} is not one of the {len(self.labels)} that the model knows",
                hint=did_you_mean(example.label, self.labels),
            )
        return self._index[example.label]

    def _encode(self, ids: list[str], target: Any, chosen: Any, confidence: Any, top5: Any, nll: Any) -> pa.Table:
        def named(index: npt.NDArray[np.int64]) -> pa.Array:
            codes = pa.array(index.astype(np.int32), mask=index < 0)
            return pa.DictionaryArray.from_arrays(codes, self._dictionary)

        columns = {"id": pa.array(ids, pa.string()), "target": named(target), "prediction": named(chosen)}
        columns |= {"correct": pa.array(target == chosen), "confidence": pa.array(confidence)}
        return pa.table(columns | {"top5": pa.array(top5.astype(bool)), "nll": pa.array(nll)})


@dataclass(frozen=True, slots=True)
class _Columns:
    """A table of judged examples as arrays; classes are numbered as the table's targets hold them."""

    classes: int
    target: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.int64]
    """-1 where the prediction is a class that no target has; it can only lower other classes' recall."""
    correct: Floats
    confidence: Floats
    top5: Floats
    nll: Floats

    @classmethod
    def of(cls, table: pa.Table) -> _Columns:
        target = _encoded(table["target"])
        prediction = _encoded(table["prediction"])
        codes = pc.index_in(prediction.dictionary, value_set=target.dictionary).fill_null(-1).to_numpy()
        chosen = prediction.indices.fill_null(-1).to_numpy()
        numbers = (table[name].to_numpy().astype(np.float64) for name in ("correct", "confidence", "top5", "nll"))
        index = np.where(chosen < 0, -1, codes[chosen] if len(codes) else -1)
        return cls(len(target.dictionary), target.indices.to_numpy(), index, *numbers)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    return whole if isinstance(whole, pa.DictionaryArray) else whole.chunk(0)


def _class_numbers(label: str, hits: np.int64, predicted: np.int64, targets: np.int64) -> dict[str, Any]:
    """Precision, recall and F1 of one class; null where it has no example (for precision: nor a prediction)."""
    return {
        "label": label,
        "precision": float(hits / predicted) if predicted else 0.0 if targets else None,
        "recall": float(hits / targets) if targets else None,
        "f1": float(2 * hits / (predicted + targets)) if targets else None,
        "support": int(targets),
    }


def _classification_sections(table: pa.Table, details: Mapping[str, Any]) -> list[Section]:
    from plait.figures import confusion_matrix, reliability_diagram
    from plait.report import Section, Table

    labels, classes, found = details["labels"], details["per_class"], []
    if len(labels) <= 30:
        figure = confusion_matrix(np.array(details["confusion"]), labels)
        text = "Rows are targets, columns predictions; the shade is the share of the row."
        found.append(Section("Confusion", text, figure=figure))
    elif details["confused"]:
        title = "Most frequent mistakes"
        confused = Table(("target", "predicted", "examples"), tuple(map(tuple, details["confused"])))
        found.append(Section(title, table=confused))
    shown, text = classes, ""
    if len(classes) > 50:
        shown = sorted((each for each in classes if each["support"]), key=lambda each: each["f1"])[:50]
        text = f"The {len(shown)} classes with the lowest F1, of {len(classes)}."
    names = ("label", "precision", "recall", "f1", "support")
    rows = tuple(tuple(each[name] for name in names) for each in shown)
    found.append(Section("Classes", text, Table(("class", "precision", "recall", "F1", "examples"), rows)))
    confidence, correct = (table[name].to_numpy().astype(np.float64) for name in ("confidence", "correct"))
    decided = np.isfinite(confidence)
    if decided.any():
        figure = reliability_diagram(confidence[decided], correct[decided], np.linspace(0, 1, _BINS + 1))
        text = (
            "How often answers of each confidence are right. Bars below the diagonal: the model is too sure of itself."
        )
        found.append(Section("Calibration", text, figure=figure))
    if details["undecided"]:
        text = f"{details['undecided']} examples got probabilities that are not finite: they count as wrong."
        found.insert(0, Section("Undecided", text))
    return found


_MOST_CLASSES = 100  # a larger confusion matrix is a file of its own size, and nobody reads it
_SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities are clipped here, as scikit-learn does for float32: a certain wrong answer costs 15.9 nats."""
_BINS = 15


def _mean(values: Floats, weights: Floats) -> Floats:
    means: Floats = weights @ values / weights.sum(axis=1)
    return means


def _sums(index: npt.NDArray[np.int64], weights: Floats, size: int) -> Floats:
    """The weights of each index from 0 to size - 1, [replicates, size]; negative indices are left out."""
    kept = index >= 0
    return np.stack([np.bincount(index[kept], row[kept], size) for row in weights])


def _macro(score: Callable[[Floats, Floats, Floats], Floats]) -> Callable[[_Columns, Floats], Floats]:
    """The mean over classes of a score of (true positives, predicted, targets), each [replicates, classes]."""

    def measure(columns: _Columns, weights: Floats) -> Floats:
        right = np.where(columns.correct > 0, columns.target, -1)
        counts = (_sums(index, weights, columns.classes) for index in (right, columns.prediction, columns.target))
        hits, predicted, targets = counts
        present = targets > 0
        scores = score(hits, np.where(predicted > 0, predicted, 1.0), np.where(present, targets, 1.0))
        means: Floats = (scores * present).sum(axis=1) / present.sum(axis=1)
        return means

    return measure


def _calibration_error(columns: _Columns, weights: Floats) -> Floats:
    """The expected calibration error, Guo et al. (2017) equation 3: 15 bins of equal width, closed on the right."""
    bins = np.clip(np.ceil(np.nan_to_num(columns.confidence) * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    gap = _sums(bins, weights * (columns.correct - columns.confidence), _BINS)
    error: Floats = np.abs(gap).sum(axis=1) / weights.sum(axis=1)
    return error


# torchmetrics is where these are checked, not where they come from: it has no example weights, which intervals need
# (two implementations of one number would drift apart), and importing it costs every run 4.4 CPU-seconds.
_METRICS: Mapping[str, Callable[[_Columns, Floats], Floats]] = {
    "accuracy": lambda columns, weights: _mean(columns.correct, weights),
    "top5_accuracy": lambda columns, weights: _mean(columns.top5, weights),
    "precision_macro": _macro(lambda hits, predicted, targets: hits / predicted),
    "recall_macro": _macro(lambda hits, predicted, targets: hits / targets),
    "f1_macro": _macro(lambda hits, predicted, targets: 2 * hits / (predicted + targets)),
    "calibration_error": _calibration_error,
    "log_loss": lambda columns, weights: _mean(columns.nll, weights),
}

__all__ = [
    "ClassPrediction",
    "ClassificationEvaluator",
    "Comparison",
    "Evaluator",
    "Interval",
    "Measure",
    "compare",
    "gather_table",
    "interval",
    "share",
]
