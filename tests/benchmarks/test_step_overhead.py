"""Prints what a step costs in Plait, Lightning and the HF Trainer over a hand-written loop; `loops` says how."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path

import pytest

from tests.benchmarks.commands import show
from tests.benchmarks.loops import NETWORKS, Comparison, Trainer, by_plait, compare
from tests.benchmarks.rivals import by_hf_trainer, by_lightning

pytestmark = pytest.mark.bench

ROUNDS, STEPS = 9, 10
CONTENDERS: dict[str, tuple[Trainer, tuple[str, str] | None, float | None]] = {
    "plait": (by_plait, None, None),
    "plait, clip": (by_plait, None, 1.0),
    "lightning": (by_lightning, ("lightning", "lightning"), None),
    "hf trainer": (by_hf_trainer, ("transformers", "transformers.trainer"), None),
}
"""By name: the trainer, the distribution and module that it needs, the norm that it and the loop beside it clip to."""


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_costs_what_it_costs_by_hand(network: str, tmp_path: Path) -> None:
    rows = []
    for name, (trainer, needs, clip) in CONTENDERS.items():
        missing = needs and absent(*needs)
        if missing:
            rows.append([name, missing])
            continue
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        found = compare(trainer, network, folder, rounds=ROUNDS, steps=STEPS, clip=clip)
        rows.append([name, *cells(found)])
        if trainer is by_plait:
            assert found.equal
    columns = ["", "over by hand", "min to max", "by hand twice", "ms CPU", "by hand", "ms wall", "by hand", "weights"]
    rows = [row + [""] * (len(columns) - len(row)) for row in rows]
    show(f"A step of {network}, 64x64, batch 16: {ROUNDS} rounds of {STEPS} steps, 1 thread", columns, rows)


def cells(found: Comparison) -> list[str]:
    """A row of the table."""
    times = [f"{1000 * seconds:.1f}" for seconds in (*found.cpu, *found.wall)]
    return [
        f"{found.ratio:.3f}", f"{min(found.ratios):.3f} to {max(found.ratios):.3f}",
        f"{statistics.median(found.floor):.3f}", *times, "equal" if found.equal else "differ",
    ]  # fmt: skip


def absent(distribution: str, module: str) -> str | None:
    """Why a rival cannot take part, or None."""
    if importlib.util.find_spec(distribution) is None:
        return "not installed"
    try:
        importlib.import_module(module)
    except Exception as error:  # a rival's broken installation is not ours to mend
        return f"cannot be imported: {error}"
    return None
