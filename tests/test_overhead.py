"""The gates on Plait's own cost: a step may cost five percent more than one of a loop written by hand, and on DeepSpeed
six percent more than one of bare DeepSpeed at the same stage; the engine may add a quarter of a millisecond, the whole
trainer a third to a step that takes one.

How it is measured is said in `tests/benchmarks/comparison.py`; `make bench` prints the same beside other trainers.
"""

from __future__ import annotations

import sys
from statistics import median

import pytest

from tests.benchmarks.comparison import Comparison, compare
from tests.figures import Figure

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("network", "rounds", "steps"), [("resnet18", 7, 10), ("vit_tiny_patch16_224", 7, 10), ("bert-4l", 5, 4)]
)
def test_a_step_costs_at_most_five_percent_more_than_by_hand_and_does_the_same(
    network: str, rounds: int, steps: int, figure: Figure
) -> None:
    found = compare("tests.benchmarks.loops:by_plait", network, rounds=rounds, steps=steps)
    figure(f"a step of {network} over one by hand", told(found))
    assert found.equal
    assert found.ratio <= 1.05, found


def test_the_local_engine_adds_a_quarter_of_a_millisecond_at_most(figure: Figure) -> None:
    """The aim is 0.15 ms, on an idle machine; 0.1 ms is on top for a busy one."""
    found = compare("tests.benchmarks.loops:by_engine", "mlp", rounds=7, steps=200)
    added = f"{1000 * (found.cpu - found.cpu_by_hand):+.2f} ms"
    figure("a step of mlp by the local engine over one by hand", f"{added}, {told(found)}")
    assert found.equal
    assert found.cpu - found.cpu_by_hand <= 0.25e-3, found


def test_the_trainer_adds_a_third_at_most_to_a_step_of_a_millisecond(figure: Figure) -> None:
    """It collates from examples, keeps time and writes logs: a fifth to a quarter was measured."""
    found = compare("tests.benchmarks.loops:by_plait", "mlp", rounds=7, steps=200)
    figure("a step of mlp by the trainer over one by hand", f"{1000 * median(found.added):+.2f} ms, {told(found)}")
    assert found.equal
    assert found.ratio <= 1.35, found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")
@pytest.mark.parametrize("stage", range(4))
def test_a_step_on_deepspeed_costs_at_most_six_percent_more_than_bare(stage: int, figure: Figure) -> None:
    found = compare(
        f"tests.benchmarks.sharded:by_plait_{stage}", "resnet18", rounds=7, steps=8,
        hand=f"tests.benchmarks.sharded:by_hand_{stage}",
    )  # fmt: skip
    figure(f"a step of resnet18 at ZeRO {stage} over one of bare DeepSpeed", told(found))
    assert found.equal
    assert found.ratio <= 1.06, found


def told(found: Comparison) -> str:
    """The ratio with its range."""
    shown = f"{found.ratio:.3f} ({min(found.ratios):.3f} to {max(found.ratios):.3f})"
    return f"{shown} of its CPU time; two loops by hand differ by {median(found.floor):.3f}"
