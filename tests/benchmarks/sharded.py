"""What is a training step on DeepSpeed, written by hand and in Plait?

One process. The hand-written loop is what DeepSpeed's manual would have a user write at the same ZeRO stage, with the
optimizer of torch; both reduce, shard and update alike, so that what differs is Plait's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from plait.engine.base import Engine
from plait.engine.deepspeed import DeepSpeedEngine, import_deepspeed
from plait.engine.group import Group
from plait.engine.world import World
from plait.options import EngineOptions
from tests.benchmarks.loops import BATCH, MEAN, RATE, SEED, STD, AfterStep, Work
from tests.benchmarks.loops import by_plait as by_trainer


def by_hand(network: torch.nn.Module, layout: torch.memory_format, work: Work, *, stage: int) -> Iterator[None]:
    """Bare DeepSpeed; it pauses after each step."""
    device = torch.device("cpu")
    deepspeed = import_deepspeed(device)
    Group(World(), device=device, timeout=600)
    images, labels = work.tensors()
    mean, std = (torch.full((3, 1, 1), value) for value in (MEAN, STD))
    network.to(memory_format=torch.contiguous_format)
    config = {
        "train_micro_batch_size_per_gpu": BATCH, "gradient_clipping": work.clip or 0.0,
        "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True,
    }  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0)
    engine = deepspeed.initialize(model=network, optimizer=optimizer, config=config, dist_init_required=False)[0]
    order = torch.from_numpy(np.random.default_rng((SEED, 0)).permutation(len(images)))
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        loss = F.cross_entropy(engine(images[chosen].float().div_(255).sub_(mean).div_(std)), labels[chosen])
        engine.backward(loss)
        engine.step()
        yield


def by_plait(work: Work, folder: Path, after_step: AfterStep, *, stage: int) -> torch.nn.Module:
    """The gradient trainer over the DeepSpeed engine."""

    def make() -> Engine:
        return DeepSpeedEngine(EngineOptions(device="cpu", zero_stage=stage))  # type: ignore[arg-type]  # 0, 1 or 2

    return by_trainer(work, folder, after_step, make)


by_hand_0, by_hand_1, by_hand_2 = (partial(by_hand, stage=stage) for stage in (0, 1, 2))
by_plait_0, by_plait_1, by_plait_2 = (partial(by_plait, stage=stage) for stage in (0, 1, 2))
