"""What does sharding save? On a model of 100 million parameters, by two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.processes import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux"),
]
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""glibc would keep the buffers that were gathered, and resident memory would say little."""


def test_two_ranks_hold_half_of_what_the_optimizer_updates(tmp_path: Path) -> None:
    """Elements are asserted; resident memory is printed: on a CPU the allocator has a say in it."""
    for stage in (0, 1, 2, 3):
        run("tests.core.engine_cases:large", 2, tmp_path / str(stage), environ=MALLOC, stage=stage)
        told = json.loads((tmp_path / str(stage) / "told.json").read_text())
        whole = told[0]["parameters"]
        held = [each["held"] for each in told]
        updates = ", ".join(f"{each / 1e6:.1f} M" for each in held)
        steady = ", ".join(str(each["steady"]) for each in told)
        print(f"ZeRO {stage}: {whole / 1e6:.1f} M parameters; ranks update {updates}; {steady} MiB above the imports")
        assert whole >= 100e6
        share = 1 if stage == 0 else 2
        assert all(whole / share <= each <= whole / share * 1.001 for each in held)
