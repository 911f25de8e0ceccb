"""What is a training step, written by hand and in Plait?

All train the same network from the same weights on the same pixels: uint8 images 64x64, batches of 16, AdamW at its
defaults but for the decay, which is 0 (Plait would spare biases), the learning rate constant; no clipping, unless all
clip. The order of the hand-written loop's images is that of Plait's (seed, epoch), so that the weights must come out
equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from plait.engine.base import Engine
from plait.engine.local import LocalEngine
from plait.logs import Listeners
from plait.options import EngineOptions
from plait.randomness import set_seed
from plait.trainer import Fit
from plait.training.gradient import GradientTrainer
from plait.training.optimization import GradientOptions
from plait_registry import Registry
from plait_vision.image_classification.timm_models import TimmClassifier
from plait_vision.images import ImageExample
from tests.benchmarks.comparison import NETWORKS

SEED = 7
BATCH = 16  # images
SIDE = 64  # pixels
CLASSES = 10
RATE = 1e-3
MEAN, STD = 0.5, 0.25
LOG_EVERY = 10  # steps: Plait's default


@dataclass(frozen=True, slots=True)
class Work:
    """A network, and images for one epoch of training it.

    Args:
        network: a key of `NETWORKS`.
        images: uint8 [images, height, width, channels].
        labels: int64 [images].
        clip: the largest norm of the gradient; None: no clipping.
    """

    network: str
    images: np.ndarray[Any, np.dtype[np.uint8]]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    clip: float | None = None

    @classmethod
    def make(cls, network: str, *, steps: int, clip: float | None = None) -> Work:
        """Random images for so many steps: what they show does not change what a step costs."""
        random = np.random.default_rng(SEED)
        images = random.integers(0, 256, (steps * BATCH, SIDE, SIDE, 3), dtype=np.uint8)
        return cls(network, images, random.integers(0, CLASSES, steps * BATCH), clip)

    @property
    def steps(self) -> int:
        return len(self.images) // BATCH

    def model(self) -> TimmClassifier:
        """A fresh model; its weights are the same every time."""
        options = TimmClassifier.Options.model_validate(
            {"name": NETWORKS[self.network], "image_size": SIDE, "augment": "none", "mean": MEAN, "std": STD}
        )
        problem = {"labels": [str(label) for label in range(CLASSES)], "height": SIDE, "width": SIDE, "channels": 3}
        return TimmClassifier.create(options=options, problem=problem, train=None, seed=SEED)

    def network_and_layout(self) -> tuple[torch.nn.Module, torch.memory_format]:
        """The bare network, in the memory format that Plait would choose."""
        model = self.model()
        layout = torch.channels_last if model.prefers_channels_last else torch.contiguous_format
        return model.network.to(memory_format=layout).train(), layout

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 [images, channels, height, width], and labels."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(self.labels)


AfterStep = Callable[[], None]
Trainer = Callable[[Work, Path, AfterStep], torch.nn.Module]
"""Trains a workload in an empty folder, calls back after each step, and gives the trained network."""


def by_hand(network: torch.nn.Module, layout: torch.memory_format, work: Work) -> Iterator[None]:
    """What a user would write; it pauses after each step."""
    images, labels = work.tensors()
    mean, std = (torch.full((3, 1, 1), value) for value in (MEAN, STD))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0)
    order = torch.from_numpy(np.random.default_rng((SEED, 0)).permutation(len(images)))
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        x = images[chosen].float().div_(255).sub_(mean).div_(std).contiguous(memory_format=layout)
        loss = F.cross_entropy(network(x), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        if work.clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), work.clip)
        optimizer.step()
        optimizer.zero_grad()
        yield


def by_plait(
    work: Work, folder: Path, after_step: AfterStep, make: Callable[[], Engine] | None = None
) -> torch.nn.Module:
    """The gradient trainer, with a real run's metrics file and TensorBoard events; over the local engine, or the one
    that is made."""
    model = work.model()
    pairs = zip(work.images, map(str, work.labels.tolist()), strict=True)
    options = GradientOptions(
        epochs=1, batch_size=BATCH, learning_rate=RATE, weight_decay=0, schedule="constant", warmup=0,
        clip=work.clip, log_every=LOG_EVERY,
    )  # fmt: skip
    events = Listeners(folder, Registry.discover(), display=None, tensorboard=True)
    set_seed(SEED)
    store: Any = NoCheckpoints()
    engine = make() if make else LocalEngine(EngineOptions(device="cpu"))
    fit = Fit(
        model=model, engine=engine, train=[ImageExample(*each) for each in pairs],
        evaluate=None, primary=None, seed=SEED, checkpoints=store, events=events, stop=after_step,
    )  # fmt: skip
    GradientTrainer(options).fit(fit)
    events.fit_ended("finished")
    network: torch.nn.Module = model.network
    return network


class NoCheckpoints:
    """A store of checkpoints that finds none and keeps none."""

    def newest(self) -> None:
        return None

    def save(self, *_: Any, **__: Any) -> Path:
        return Path()
