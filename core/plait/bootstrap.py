"""How sure is a metric, and is one run better than another on the same examples?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plait.errors import DataError

Floats = npt.NDArray[np.float64]
Measure = Callable[[pa.Table, Floats], Floats]
"""A metric under example weights: a table of examples, weights [replicates, examples] -> [replicates]."""

_CELLS = 8_000_000  # weights held at once: 64 MB, so that a million examples are resampled eight replicates at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the metric would lie on other examples of the same kind. It says nothing of other seeds or other data.

    Args:
        low, high: the bounds, in the metric's unit.
        level: the probability that such an interval covers the metric: 0.95.
        replicates: how many resamples it was drawn from.
    """

    low: float
    high: float
    level: float
    replicates: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs on the same examples. A difference above zero says that the first one's number is the larger.

    Args:
        first, second: the metric of each.
        difference: first - second.
        low, high: the interval of the difference, at `level`.
        p_value: two-sided, of no difference; never below 2 / (replicates + 1).
        examples: how many examples both judged.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    examples: int
    level: float
    replicates: int


def interval(
    measure: Measure, table: pa.Table, *, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval over examples (Efron and Tibshirani 1993, section 13.3).

    Examples are resampled as if independent: several photographs of one object make it too narrow. Where every
    replicate is equal (no mistake in the table), it has no width and says nothing.

    Raises:
        DataError: the table is empty.
    """
    _check(table, replicates, level)
    values = np.concatenate([measure(table, weights) for weights in _resamples(len(table), replicates, seed)])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, replicates)


def compare(
    measure: Measure, first: pa.Table, second: pa.Table, *, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Comparison:
    """The paired bootstrap: both tables get the same resamples, so that hard examples are hard for both.

    Rows are paired by `id`, in any order. The p-value is twice the smaller share of replicates on one side of zero,
    the data counted as one of them (Davison and Hinkley 1997, section 4.2).

    Raises:
        DataError: ids repeat or differ between the tables, or one id has two targets; says how many and which.
    """
    _check(first, replicates, level)
    second = _paired(first, second)
    drawn = (measure(first, each) - measure(second, each) for each in _resamples(len(first), replicates, seed))
    values = np.concatenate(list(drawn))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    once = np.ones((1, len(first)))
    a, b = float(measure(first, once)[0]), float(measure(second, once)[0])
    p_value = min(1.0, 2 * (tail + 1) / (replicates + 1))
    return Comparison(a, b, a - b, float(low), float(high), p_value, len(first), level, replicates)


def _resamples(examples: int, replicates: int, seed: int) -> Iterator[Floats]:
    """How often each example is drawn, [some replicates, examples] at a time."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CELLS // examples)
    for start in range(0, replicates, chunk):
        weights = np.empty((min(chunk, replicates - start), examples))
        for row in weights:
            row[:] = np.bincount(generator.integers(examples, size=examples), minlength=examples)
        yield weights


def _check(table: pa.Table, replicates: int, level: float) -> None:
    if not len(table):
        raise DataError("there are no judged examples to resample", hint="evaluate a split that has examples")
    if replicates < 1 or not 0 < level < 1:
        raise ValueError(f"expected replicates >= 1 and 0 < level < 1, not {replicates} and {level}")


def _paired(first: pa.Table, second: pa.Table) -> pa.Table:
    """The second table in the order of the first one's ids."""
    for name, table in (("first", first), ("second", second)):
        counts = table["id"].value_counts()
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
        if repeated:
            raise DataError(f"{len(repeated)} ids repeat in the {name} run's predictions ({_some(repeated)})")
    order = pc.index_in(first["id"], value_set=second["id"])
    only = {
        "first": first["id"].filter(pc.is_null(order)).to_pylist(),
        "second": second["id"].filter(pc.invert(pc.is_in(second["id"], value_set=first["id"]))).to_pylist(),
    }
    if any(only.values()):
        found = "; ".join(f"{len(ids)} only in the {run} ({_some(ids)})" for run, ids in only.items() if ids)
        raise DataError(
            f"the two runs were judged on different examples: {found}",
            hint="compare runs that were evaluated on the same data and split",
        )
    second = second.take(order)
    if "target" in first.column_names and "target" in second.column_names:
        targets = [table["target"].to_pylist() for table in (first, second)]
        rows = [row for row, (a, b) in enumerate(zip(*targets, strict=True)) if a != b]
        if rows:
            ids = first["id"].take(rows[:3]).to_pylist()
            raise DataError(f"{len(rows)} examples have another target in the second run ({_some(ids, len(rows))})")
    return second


def _some(values: list[Any], total: int | None = None) -> str:
    total = len(values) if total is None else total
    return ", ".join(map(str, values[:3])) + (", ..." if total > 3 else "")
