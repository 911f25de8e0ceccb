"""What processes of `test_group` do: numbers that travel together."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from plait.engine.group import Group, disconnect
from plait.engine.world import World


class Counted:
    """torch's own all_gather, which counts its calls."""

    def __init__(self) -> None:
        self.calls, self._own = 0, dist.all_gather

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self._own(*args, **options)


def numbers(folder: Path) -> None:
    """Write what each rank is told, and after how many messages."""
    group = Group(World.find(), device=torch.device("cpu"), timeout=60)
    dist.all_gather = counted = Counted()  # type: ignore[assignment]  # on purpose
    own = group.rank + 1.0
    found: list[Any] = []
    one, other = group.later(own), group.later(0.1 * own)
    found.append([group.number(own, "max"), counted.calls])
    found.append([one(), other(), counted.calls])
    alone = group.later(10 * own)
    found.append([alone(), alone(), counted.calls])
    found.append([group.number(own, op) for op in ("sum", "mean", "min", "max")])
    found.append([math.isnan(group.number(math.nan if group.rank == 1 else own, op)) for op in ("sum", "min", "max")])
    (folder / f"{group.rank}.json").write_text(json.dumps(found))
    group.close()
    disconnect()


def training(folder: Path, steps: int) -> None:
    """Train a small network at ZeRO 0 and write how many messages a step took, those of gradients left out."""
    from tests.benchmarks.sharded import by_plait_0
    from tests.benchmarks.workloads import make

    counted, after, rank = Counted(), [], World.find().rank
    dist.all_gather = counted  # type: ignore[assignment]  # as above
    run = folder / f"run-{rank}"
    run.mkdir()
    by_plait_0(make("mlp", steps=steps), run, lambda: after.append(counted.calls))
    (folder / f"{rank}.json").write_text(json.dumps(after))
    disconnect()
