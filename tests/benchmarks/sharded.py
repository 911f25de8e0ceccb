"""What is a training step on DeepSpeed, written by hand and in Plait?

One process or several. The hand-written loop is what DeepSpeed's manual would have a user write at the same ZeRO stage,
with the optimizer of torch; both reduce, shard and update alike, so that what differs is Plait's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from plait.engine.base import Engine
from plait.engine.deepspeed import DeepSpeedEngine, import_deepspeed
from plait.engine.group import Group
from plait.engine.world import World
from plait.options import EngineOptions
from tests.benchmarks.loops import RATE, AfterStep, in_order
from tests.benchmarks.loops import by_plait as by_trainer
from tests.benchmarks.workloads import Work


def by_hand(network: nn.Module, work: Work, *, stage: int) -> Iterator[None]:
    """Bare DeepSpeed; it pauses after each step."""
    device, world = torch.device("cpu"), World.find()
    deepspeed = import_deepspeed(device)
    Group(world, device=device, timeout=600).close()
    network.to(memory_format=torch.contiguous_format)
    config = {
        "train_micro_batch_size_per_gpu": work.batch // world.size, "gradient_clipping": work.clip or 0.0,
        "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True,
    }  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0)
    engine = deepspeed.initialize(model=network, optimizer=optimizer, config=config, dist_init_required=False)[0]
    for inputs, labels in in_order(work, rank=world.rank, ranks=world.size):
        engine.backward(F.cross_entropy(work.logits(engine, inputs), labels))
        engine.step()
        yield


def by_plait(work: Work, folder: Path, after_step: AfterStep, *, stage: int) -> nn.Module:
    """The gradient trainer over the DeepSpeed engine."""

    def make() -> Engine:
        return DeepSpeedEngine(EngineOptions(device="cpu", zero_stage=stage))  # type: ignore[arg-type]  # 0 to 3

    return by_trainer(work, folder, after_step, make)


by_hand_0, by_hand_1, by_hand_2, by_hand_3 = (partial(by_hand, stage=stage) for stage in range(4))
by_plait_0, by_plait_1, by_plait_2, by_plait_3 = (partial(by_plait, stage=stage) for stage in range(4))
