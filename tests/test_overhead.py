"""The gates on Plait's own cost: a step may cost five percent more than one of a loop written by hand, and on DeepSpeed
six percent more than one of bare DeepSpeed at the same stage; the engine may add a quarter of a millisecond.

How it is measured is said in `tests/benchmarks/comparison.py`; `make bench` prints the same beside other trainers.
"""

from __future__ import annotations

import sys
from statistics import median

import pytest

from tests.benchmarks.comparison import Comparison, compare

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("network", "rounds", "steps"), [("resnet18", 7, 10), ("vit_tiny_patch16_224", 7, 10), ("bert-4l", 5, 4)]
)
def test_a_step_costs_at_most_five_percent_more_than_by_hand_and_does_the_same(
    network: str, rounds: int, steps: int
) -> None:
    found = compare("tests.benchmarks.loops:by_plait", network, rounds=rounds, steps=steps)
    tell(network, found)
    assert found.equal
    assert found.ratio <= 1.05, found


def test_the_local_engine_adds_a_quarter_of_a_millisecond_at_most() -> None:
    """The aim is 0.15 ms, on an idle machine; 0.1 ms is on top for a busy one."""
    found = compare("tests.benchmarks.loops:by_engine", "mlp", rounds=7, steps=200)
    tell("mlp", found)
    assert found.equal
    assert found.cpu - found.cpu_by_hand <= 0.25e-3, found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")
@pytest.mark.parametrize("stage", range(4))
def test_a_step_on_deepspeed_costs_at_most_six_percent_more_than_bare(stage: int) -> None:
    found = compare(
        f"tests.benchmarks.sharded:by_plait_{stage}", "resnet18", rounds=7, steps=8,
        hand=f"tests.benchmarks.sharded:by_hand_{stage}",
    )  # fmt: skip
    tell(f"ZeRO {stage}", found)
    assert found.equal
    assert found.ratio <= 1.06, found


def tell(what: str, found: Comparison) -> None:
    """Print the ratio with its range."""
    shown = f"{found.ratio:.3f} ({min(found.ratios):.3f} to {max(found.ratios):.3f})"
    print(f"\n{what}: {shown} of the CPU time by hand, whose own two loops differ by {median(found.floor):.3f}")
