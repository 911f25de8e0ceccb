"""What is a training step, written by hand and in Plait?

All train the same network from the same weights on the same numbers: AdamW at its defaults but for the decay, which is
0 (Plait would spare biases), the learning rate constant; no clipping, unless all clip. The order of the hand-written
loop's examples is that of Plait's (seed, epoch), so that the weights must come out equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.engine.base import Engine
from plait.engine.local import LocalEngine
from plait.logs import Listeners, Nobody
from plait.options import EngineOptions
from plait.randomness import set_seed
from plait.trainer import Fit
from plait.training.gradient import GradientTrainer
from plait.training.optimization import GradientOptions
from plait_registry import Registry
from tests.benchmarks.workloads import SEED, Work

RATE = 1e-3
LOG_EVERY = 10  # steps: Plait's default

AfterStep = Callable[[], None]
Trainer = Callable[[Work, Path, AfterStep], nn.Module]
"""Trains a workload in an empty folder, calls back after each step, and gives the trained network."""


def in_order(work: Work, *, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch, or a rank's parts of them, as a hand-written loop takes them from memory, in Plait's
    order."""
    inputs, labels = work.tensors()
    order = torch.from_numpy(np.random.default_rng((SEED, 0)).permutation(len(labels)))
    share = work.batch // ranks
    for first in range(rank * share, len(order), work.batch):
        chosen = order[first : first + share]
        yield inputs[chosen], labels[chosen]


def by_hand(network: nn.Module, work: Work) -> Iterator[None]:
    """What a user would write; it pauses after each step."""
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0)
    for inputs, labels in in_order(work):
        loss = F.cross_entropy(work.logits(network, inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        if work.clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), work.clip)
        optimizer.step()
        optimizer.zero_grad()
        yield


def by_engine(work: Work, folder: Path, after_step: AfterStep) -> nn.Module:
    """The hand-written loop over the local engine: what `forward`, `backward` and `step` add, as Fabric's and
    Accelerate's wrappers do."""
    model = work.model()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0)
    engine = LocalEngine(EngineOptions(device="cpu"))
    engine.setup(model, optimizer, clip=work.clip, average=None)
    engine.train()
    for inputs, labels in in_order(work):
        loss = engine.forward(engine.move(work.ready(inputs, labels))).loss
        assert loss is not None
        engine.backward(loss, scale=1.0)
        engine.step()
        after_step()
    network: nn.Module = model.network  # type: ignore[assignment]  # set in __init__
    return network


def by_plait(work: Work, folder: Path, after_step: AfterStep, make: Callable[[], Engine] | None = None) -> nn.Module:
    """The gradient trainer, with a real run's metrics file and TensorBoard events; over the local engine, or the one
    that is made."""
    model = work.model()
    options = GradientOptions(
        epochs=1, batch_size=work.batch, learning_rate=RATE, weight_decay=0, schedule="constant", warmup=0,
        clip=work.clip, log_every=LOG_EVERY,
    )  # fmt: skip
    engine = make() if make else LocalEngine(EngineOptions(device="cpu"))
    first = engine.rank == 0
    events = Listeners(folder, Registry.discover(), display=None, tensorboard=True) if first else Nobody()
    set_seed(SEED)
    store: Any = NoCheckpoints()
    left = iter(range(work.steps))

    def stop() -> None:
        if engine.world_size > 1:
            engine.reduce(0.0, "max")  # as the ranks of a run ask each other
        if next(left, None) is not None:  # it is asked again after the last evaluation
            after_step()

    fit = Fit(
        model=model, engine=engine, train=work.examples(), evaluate=None, primary=None, seed=SEED, checkpoints=store,
        events=events, stop=stop,
    )  # fmt: skip
    GradientTrainer(options).fit(fit)
    events.fit_ended("finished")
    network: nn.Module = model.network  # type: ignore[assignment]  # set in __init__
    return network


class NoCheckpoints:
    """A store of checkpoints that finds none and keeps none."""

    def newest(self) -> None:
        return None

    def save(self, *_: Any, **__: Any) -> Path:
        return Path()
