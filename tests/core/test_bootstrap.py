"""Intervals and paired comparisons against brute force, exact tests, and what they promise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from plait import bootstrap
from plait.bootstrap import compare, interval
from plait.errors import DataError


def answers(correct: Any, ids: Any = None) -> pa.Table:
    correct = np.asarray(correct, float)
    ids = [f"e{number}" for number in range(len(correct))] if ids is None else ids
    return pa.table({"id": ids, "correct": correct})


def accuracy(table: pa.Table, weights: Any) -> Any:
    return weights @ table["correct"].to_numpy() / weights.sum(axis=1)


def median(table: pa.Table, weights: Any) -> Any:
    """A metric that is no mean, by repeating examples as often as their weight says."""
    values = table["correct"].to_numpy()
    return np.array([np.median(np.repeat(values, row.astype(int))) for row in weights])


@pytest.mark.parametrize(("measure", "plain"), [(accuracy, np.mean), (median, np.median)])
def test_the_interval_is_that_of_every_possible_resample(measure: Any, plain: Any) -> None:
    values = np.array([0.0, 1.0, 2.0, 5.0, 9.0])
    everything = [plain(values[list(drawn)]) for drawn in itertools.product(range(5), repeat=5)]
    found = interval(measure, answers(values), replicates=20_000, level=0.8)
    # means of five whole numbers lie 0.2 apart, so a quantile may fall on the neighbour
    assert (found.low, found.high) == pytest.approx(np.quantile(everything, [0.1, 0.9]), abs=0.2001)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for number in range(300):
        found = interval(accuracy, answers(generator.random(120) < 0.8), replicates=300, level=0.9, seed=number)
        covered += found.low <= 0.8 <= found.high
    assert 0.84 <= covered / 300 <= 0.95  # 0.9, three standard errors, and the percentile method's small-sample loss


def test_the_seed_fixes_it_and_the_memory_at_hand_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    table = answers(np.random.default_rng(1).random(97))
    whole = interval(accuracy, table, seed=3)
    assert whole == interval(accuracy, table, seed=3)
    assert whole != interval(accuracy, table, seed=4)
    monkeypatch.setattr(bootstrap, "_CELLS", 1000)  # ten replicates at a time
    sizes: list[int] = []

    def watched(table: pa.Table, weights: Any) -> Any:
        sizes.append(len(weights))
        assert (weights.sum(axis=1) == 97).all()
        return accuracy(table, weights)

    found = interval(watched, table, seed=3)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high))
    assert len(sizes) == 100
    assert set(sizes) == {10}


def test_a_run_equals_itself() -> None:
    table = answers(np.random.default_rng(0).random(50) < 0.7)
    found = compare(accuracy, table, table)
    assert (found.difference, found.low, found.high, found.p_value, found.examples) == (0, 0, 0, 1, 50)


@pytest.mark.parametrize(("only_first", "only_second"), [(30, 10), (22, 18), (12, 2), (5, 30)])
def test_p_values_agree_with_mcnemars_exact_test(only_first: int, only_second: int) -> None:
    """Both tests look only at the examples on which one run is right and the other is wrong."""
    agreed = 200 - only_first - only_second
    first = answers([1] * agreed + [1] * only_first + [0] * only_second)
    second = answers([1] * agreed + [0] * only_first + [1] * only_second)
    found = compare(accuracy, first, second, replicates=4000)
    exact = binomtest(only_first, only_first + only_second).pvalue
    assert found.difference == pytest.approx((only_first - only_second) / 200)
    assert (found.p_value < 0.05) == (exact < 0.05) == (found.low > 0 or found.high < 0)
    assert found.p_value == pytest.approx(exact, abs=0.15)
    mirrored = compare(accuracy, second, first, replicates=4000)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_pairing_sees_a_difference_that_two_intervals_hide() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(400) < 0.4  # both runs fail on the hard examples
    first, second = ~hard, ~hard & (generator.random(400) < 0.95)
    one, other = interval(accuracy, answers(first)), interval(accuracy, answers(second))
    assert one.low < other.high, "the intervals overlap"
    assert compare(accuracy, answers(first), answers(second)).low > 0


def test_rows_are_paired_by_id_in_any_order() -> None:
    generator = np.random.default_rng(0)
    first, second = answers(generator.random(60) < 0.8), answers(generator.random(60) < 0.6)
    shuffled = second.take(pa.array(generator.permutation(60)))
    assert compare(accuracy, first, shuffled) == compare(accuracy, first, second)


def test_what_cannot_be_compared_is_named() -> None:
    first, second = answers([1, 0, 1], list("abc")), answers([1, 1, 1, 1], list("bcde"))
    with pytest.raises(DataError, match=r"1 only in the first \(a\); 2 only in the second \(d, e\)"):
        compare(accuracy, first, second)
    with pytest.raises(DataError, match=r"1 ids repeat in the second run's predictions \(b\)"):
        compare(accuracy, first, answers([1, 1, 1], list("abb")))
    ours, theirs = (first.append_column("target", [labels]) for labels in (["x", "y", "x"], ["x", "x", "y"]))
    with pytest.raises(DataError, match=r"2 examples have another target in the second run \(b, c\)"):
        compare(accuracy, ours, theirs)
    with pytest.raises(DataError, match="no judged examples"):
        interval(accuracy, answers([]))
    with pytest.raises(ValueError, match="0 < level < 1"):
        interval(accuracy, first, level=95)
