"""Prints what it costs to ask `plait` something that needs no training: CPU seconds of fresh processes, in turns."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

from tests.benchmarks.commands import PLAIT, Ran, run, show

pytestmark = pytest.mark.bench

ROUNDS = 9
COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "python -c 'import plait'": (sys.executable, "-c", "import plait"),
    "plait --version": (*PLAIT, "--version"),
    "plait --help": (*PLAIT, "--help"),
    "plait list --json": (*PLAIT, "list", "--json"),
    "python -c 'import torch'": (sys.executable, "-c", "import torch"),
}


def test_listing_starts_without_the_heavy_libraries(tmp_path: Path) -> None:
    found: dict[str, list[Ran]] = {name: [] for name in COMMANDS}
    for _ in range(1 + ROUNDS):
        for name, command in COMMANDS.items():
            found[name].append(run(command, folder=tmp_path))
    rows = []
    for name, runs in found.items():
        cpu = [each.cpu for each in runs[1:]]  # the first round fills the disk cache
        wall = statistics.median(each.wall for each in runs[1:])
        rows.append([name, f"{statistics.median(cpu):.3f}", f"{min(cpu):.3f} to {max(cpu):.3f}", f"{wall:.3f}"])
    show(f"Start-up, seconds, {ROUNDS} rounds", ["", "CPU", "min to max", "wall"], rows)
