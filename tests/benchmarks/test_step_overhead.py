"""Prints what a step costs in Plait and its rivals over a hand-written loop; `comparison` says how."""

from __future__ import annotations

import importlib.util
import statistics
from dataclasses import dataclass

import pytest

from tests.benchmarks.commands import show
from tests.benchmarks.comparison import Comparison, compare

pytestmark = pytest.mark.bench(minutes=30)

ROUNDS = {"mlp": (9, 200), "resnet18": (9, 10), "bert-4l": (5, 5), "texts": (7, 10)}
"""Rounds, and steps of each, by network: some seconds of each contender."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A row of the table: a trainer, the distribution that it needs, and the norm to which gradients are clipped."""

    trainer: str
    needs: str | None = None
    clip: float | None = None


PLAIT = "tests.benchmarks.loops:by_plait"
CONTENDERS = {
    "plait: local engine": Contender("tests.benchmarks.loops:by_engine"),
    "fabric": Contender("tests.benchmarks.rivals:by_fabric", needs="lightning"),
    "accelerate": Contender("tests.benchmarks.rivals:by_accelerate", needs="accelerate"),
    "plait: trainer": Contender(PLAIT),
    "plait: trainer, all clip": Contender(PLAIT, clip=1.0),
    "lightning trainer": Contender("tests.benchmarks.rivals:by_lightning", needs="lightning"),
    "hf trainer": Contender("tests.benchmarks.rivals:by_hf_trainer", needs="transformers"),
}
"""First those that wrap the parts of a hand-written loop, then those that have the loop."""
COLUMNS = [
    "", "over by hand", "min to max", "ms more", "min to max", "by hand twice", "ms CPU", "by hand", "ms wall",
    "by hand", "weights",
]  # fmt: skip


@pytest.mark.parametrize("network", ROUNDS)
def test_a_step_costs_what_it_costs_by_hand(network: str) -> None:
    rows, (rounds, steps) = [], ROUNDS[network]
    for name, each in CONTENDERS.items():
        if each.needs and importlib.util.find_spec(each.needs) is None:
            rows.append([name, "not installed", *[""] * (len(COLUMNS) - 2)])
            continue
        try:
            found = compare(each.trainer, network, rounds=rounds, steps=steps, clip=each.clip)
        except RuntimeError as error:
            if each.needs is None:
                raise
            rows.append([name, f"fails here: {str(error).splitlines()[-1]}", *[""] * (len(COLUMNS) - 2)])
            continue
        rows.append([name, *cells(found)])
        assert found.equal or each.needs
    show(f"A step of {network}: {rounds} rounds of {steps} steps, 1 thread", COLUMNS, rows)


@pytest.mark.parametrize("network", ROUNDS)
def test_a_step_on_deepspeed_costs_what_it_costs_bare(network: str) -> None:
    """Weights are compared at stages 0 to 2; at stage 3 no whole ones are kept."""
    rows, (rounds, steps) = [], ROUNDS[network]
    for stage in range(4):
        found = compare(
            f"tests.benchmarks.sharded:by_plait_{stage}", network, rounds=rounds, steps=steps,
            hand=f"tests.benchmarks.sharded:by_hand_{stage}",
        )  # fmt: skip
        rows.append([f"plait, ZeRO {stage}", *cells(found)])
        assert found.equal
    show(f"A step of {network} on DeepSpeed, one process, beside DeepSpeed by hand", COLUMNS, rows)


@pytest.mark.parametrize("network", ["mlp", "resnet18"])
def test_a_step_on_two_processes_costs_what_it_costs_bare(network: str) -> None:
    """The first process's CPU time, in which waiting for the other counts little; wall seconds have it whole."""
    rows, (rounds, steps) = [], ROUNDS[network]
    for stage in range(4):
        found = compare(
            f"tests.benchmarks.sharded:by_plait_{stage}", network, rounds=rounds, steps=steps,
            hand=f"tests.benchmarks.sharded:by_hand_{stage}", processes=2,
        )  # fmt: skip
        rows.append([f"plait, ZeRO {stage}", *cells(found)])
        assert found.equal
    show(f"A step of {network} on DeepSpeed, two processes, beside DeepSpeed by hand", COLUMNS, rows)


def cells(found: Comparison) -> list[str]:
    """The row of a contender."""
    seconds = (found.cpu, found.cpu_by_hand, found.wall, found.wall_by_hand)
    more = [1000 * each for each in found.added]
    return [
        f"{found.ratio:.3f}",
        f"{min(found.ratios):.3f} to {max(found.ratios):.3f}",
        f"{statistics.median(more):+.2f}",
        f"{min(more):+.2f} to {max(more):+.2f}",
        f"{statistics.median(found.floor):.3f}",
        *[f"{1000 * each:.1f}" for each in seconds],
        "equal" if found.equal else "differ",
    ]
