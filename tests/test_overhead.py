"""The gate on the gradient trainer's own cost: a step may cost five percent more than one of a loop written by hand.

How it is measured is said in `tests/benchmarks/comparison.py`; `make bench` prints the same beside other trainers.
"""

from __future__ import annotations

from statistics import median

import pytest

from tests.benchmarks.comparison import NETWORKS, compare

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_costs_at_most_five_percent_more_than_by_hand_and_does_the_same(network: str) -> None:
    found = compare("tests.benchmarks.loops:by_plait", network, rounds=7, steps=10)
    shown = f"{found.ratio:.3f} ({min(found.ratios):.3f} to {max(found.ratios):.3f})"
    print(f"\n{network}: {shown} of the CPU time by hand, whose own two loops differ by {median(found.floor):.3f}")
    assert found.equal
    assert found.ratio <= 1.05, found
