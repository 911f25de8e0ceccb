"""How well, and how fast, do the networks recognise real digits?

Measured on FSDD's official split (takes 0 to 4), from the folder `fsdd` of the one that PLAIT_BENCH_DATA names.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean
from time import process_time

import pytest

from plait.api import registry, train

pytestmark = pytest.mark.bench(minutes=2)

PATTERN = r"(?P<speaker>[^/]+)/(?P<label>\d)_\w+_(?:(?P<test>[0-4])|\d+)\.wav"
SEEDS = (0, 1, 2)


def test_tdnn_on_spoken_digits(tmp_path: Path) -> None:
    folder = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "fsdd")
    if not folder.is_dir():
        pytest.skip("PLAIT_BENCH_DATA names no folder with fsdd/<speaker>/<digit>_<speaker>_<take>.wav")
    if "speech/tdnn" not in [entry.name for entry in registry().entries("model")]:
        pytest.skip("plait-speech is not installed")
    accuracies, seconds = [], []
    for seed in SEEDS:
        before = process_time()
        run = train(
            "speech/word-recognition", "speech/tdnn", {"source": str(folder), "pattern": PATTERN}, seed=seed,
            out=tmp_path / str(seed), engine={"threads": 1}, output={"report": False, "tensorboard": False},
        )  # fmt: skip
        seconds.append(process_time() - before)
        accuracies.append(run.metrics["test"]["accuracy"])
    print(f"speech/tdnn on FSDD: {mean(accuracies):.4f} mean of {accuracies}, {mean(seconds):.0f} CPU-s a run")
    assert mean(accuracies) >= 0.99
