"""For how long does a checkpoint of 100 million parameters hold a training up?"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from plait.checkpoint import Checkpoints
from tests.core.engine_cases import ADAMW, batches, make, step
from tests.core.memory_cases import Large
from tests.figures import Figure

pytestmark = pytest.mark.bench

WAYS = {"in the foreground": False, "in the background": True}
TURNS = 3


def test_a_save_in_the_background_holds_a_training_up_for_a_copy_only(tmp_path: Path, figure: Figure) -> None:
    """Weights and AdamW's moments; the two ways take turns. Wall seconds, since a disk is waited for."""
    engine, _, _ = make(None, {**ADAMW}, kind=Large)
    step(engine, *batches(1, size=4)[0])
    waited: dict[str, list[float]] = {name: [] for name in WAYS}
    ready: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(TURNS):
        for name, background in WAYS.items():
            checkpoints = Checkpoints(
                tmp_path, engine=engine, keep_last=1, background=background, warn=pytest.fail, saved=lambda *_: None
            )
            begun = time.perf_counter()
            checkpoints.save(2 * turn + background, {}, engine.copy_shards)
            waited[name].append(time.perf_counter() - begun)
            checkpoints.settle()
            ready[name].append(time.perf_counter() - begun)
    [written] = tmp_path.glob("step-*")
    size = sum(each.stat().st_size for each in written.iterdir()) / 2**20
    for name in WAYS:
        text = f"training waits {min(waited[name]):.2f} s, on disk after {min(ready[name]):.2f} s, best of {TURNS}"
        figure(f"a checkpoint of {size:.0f} MiB, {name}", text)
    assert min(waited["in the background"]) < min(waited["in the foreground"]) / 2
