"""Prints what a step costs in Plait and its rivals over a hand-written loop; `comparison` says how."""

from __future__ import annotations

import importlib.util
import statistics
from dataclasses import dataclass

import pytest

from tests.benchmarks.commands import show
from tests.benchmarks.comparison import NETWORKS, Comparison, compare

pytestmark = pytest.mark.bench

ROUNDS, STEPS = 9, 10


@dataclass(frozen=True, slots=True)
class Contender:
    """A row of the table: a trainer, the distribution that it needs, and the norm to which gradients are clipped."""

    trainer: str
    needs: str | None = None
    clip: float | None = None


PLAIT = "tests.benchmarks.loops:by_plait"
CONTENDERS = {
    "plait": Contender(PLAIT),
    "plait, all clip": Contender(PLAIT, clip=1.0),
    "fabric": Contender("tests.benchmarks.rivals:by_fabric", needs="lightning"),
    "lightning": Contender("tests.benchmarks.rivals:by_lightning", needs="lightning"),
    "hf trainer": Contender("tests.benchmarks.rivals:by_hf_trainer", needs="transformers"),
}
COLUMNS = ["", "over by hand", "min to max", "by hand twice", "ms CPU", "by hand", "ms wall", "by hand", "weights"]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_costs_what_it_costs_by_hand(network: str) -> None:
    rows = []
    for name, each in CONTENDERS.items():
        if each.needs and importlib.util.find_spec(each.needs) is None:
            rows.append([name, "not installed", *[""] * 7])
            continue
        try:
            found = compare(each.trainer, network, rounds=ROUNDS, steps=STEPS, clip=each.clip)
        except RuntimeError as error:
            if each.needs is None:
                raise
            rows.append([name, f"fails here: {str(error).splitlines()[-1]}", *[""] * 7])
            continue
        rows.append([name, *cells(found)])
        assert found.equal or each.needs
    show(f"A step of {network}, 64x64, batch 16: {ROUNDS} rounds of {STEPS} steps, 1 thread", COLUMNS, rows)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_on_deepspeed_costs_what_it_costs_bare(network: str) -> None:
    """At stages 0 to 2: stage 3 keeps no whole weights to compare."""
    rows = []
    for stage in (0, 1, 2):
        found = compare(
            f"tests.benchmarks.sharded:by_plait_{stage}", network, rounds=ROUNDS, steps=STEPS,
            hand=f"tests.benchmarks.sharded:by_hand_{stage}",
        )  # fmt: skip
        rows.append([f"plait, ZeRO {stage}", *cells(found)])
        assert found.equal
    show(f"A step of {network} on DeepSpeed, one process, beside DeepSpeed by hand", COLUMNS, rows)


def cells(found: Comparison) -> list[str]:
    """The row of a contender."""
    seconds = (found.cpu, found.cpu_by_hand, found.wall, found.wall_by_hand)
    return [
        f"{found.ratio:.3f}",
        f"{min(found.ratios):.3f} to {max(found.ratios):.3f}",
        f"{statistics.median(found.floor):.3f}",
        *[f"{1000 * each:.1f}" for each in seconds],
        "equal" if found.equal else "differ",
    ]
