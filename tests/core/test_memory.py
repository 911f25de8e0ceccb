"""What does sharding save? On a model of 100 million parameters, by two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.figures import Figure
from tests.processes import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.figures(minutes=3),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux"),
]
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""glibc would keep the buffers that were gathered, and resident memory would say little."""


def test_two_ranks_hold_half_of_what_the_optimizer_updates(tmp_path: Path, figure: Figure) -> None:
    """Elements are asserted; resident memory is told: on a CPU the allocator has a say in it."""
    first = set()
    for stage in (0, 1, 2, 3):
        run("tests.core.memory_cases:large", 2, tmp_path / str(stage), environ=MALLOC, stage=stage)
        told = json.loads((tmp_path / str(stage) / "told.json").read_text())
        whole = told[0]["parameters"]
        held = [each["held"] for each in told]
        updates = ", ".join(f"{each / 1e6:.1f} M" for each in held)
        steady = ", ".join(str(each["steady"]) for each in told)
        text = f"ranks update {updates} of them; resident, between steps, above the imports: {steady} MiB"
        figure(f"{whole / 1e6:.1f} M parameters, two processes, ZeRO {stage}", text)
        assert whole >= 100e6
        share = 1 if stage == 0 else 2
        assert all(whole / share <= each <= whole / share * 1.001 for each in held)
        first.add(told[0]["first"])
    assert len(first) == 1, "the first weights are those of every stage, bit for bit"


def test_only_rank_0_makes_the_whole_model_where_parameters_are_sharded(tmp_path: Path, figure: Figure) -> None:
    """Four processes on one host hold 100 million parameters once at the start, and not four times."""
    told = {}
    for deferred in (True, False):
        place = tmp_path / str(deferred)
        run("tests.core.memory_cases:started", 4, place, environ=MALLOC, deferred=deferred)
        told[deferred] = json.loads((place / "told.json").read_text())
        made, most = (", ".join(str(each[name]) for each in told[deferred]) for name in ("made", "most"))
        where = "by rank 0" if deferred else "on each rank"
        text = f"resident {made} MiB when it is made, at most {most} until it is sharded"
        figure(f"100 M parameters, ZeRO 3, four processes, made whole {where}", text)
    whole = told[True][0]["made"]
    assert whole >= 380  # 100 million float32
    assert all(each["made"] < 0.1 * whole for each in told[True][1:])
    assert max(each["most"] for each in told[True][1:]) < 0.95 * min(each["most"] for each in told[False][1:])


def test_a_plan_is_within_15_percent_of_what_a_training_holds_between_its_steps(tmp_path: Path, figure: Figure) -> None:
    """AdamW on 100 million parameters in one process, after its last step."""
    run("tests.core.memory_cases:planned", 1, tmp_path, environ=MALLOC, hidden=10_000_000)
    told = json.loads((tmp_path / "told.json").read_text())
    steady, held = told["weights"] + told["optimizer"], told["held"][-1]
    text = f"{steady / 2**20:.0f} MiB planned, {held / 2**20:.0f} held: {steady / held - 1:+.1%}"
    figure("plait plan, 100 M parameters, AdamW, one process, between steps", text)
    assert steady == pytest.approx(held, rel=0.15)
