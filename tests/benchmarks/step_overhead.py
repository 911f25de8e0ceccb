"""What does a training step cost in Plait, and what in a loop written by hand, in Lightning and in the HF Trainer?

Every contender trains the same network from the same weights on the same pixels: uint8 images 64x64, batches of 16,
AdamW at its defaults but for the decay, which is 0 (Plait decays matrices only), no clipping, the learning rate constant,
one epoch, one thread. The hand-written loop is what a user would write: permute, index, scale, normalise, forward,
cross-entropy, backward, step, clear. Its permutation is the one of Plait's (seed, epoch), so that the weights must be
equal bit for bit; Lightning and the HF Trainer shuffle as they do.

What is timed: from the first batch to the last update, with what each logs every 10 steps. What is not: building the
network, saving it, reports. Nothing is subtracted. The contenders take turns in one process, and a round's ratio is its
CPU time over that of the hand-written loop beside it in the same round; the median of rounds is what counts.
`time.process_time` does not see that other programs wait for the same cores, only that they empty its caches.
"""

from __future__ import annotations

import importlib.util
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from plait.engine.local import LocalEngine
from plait.logs import Listeners
from plait.model import Model
from plait.options import EngineOptions
from plait.randomness import set_seed
from plait.trainer import Fit
from plait.training.gradient import GradientTrainer
from plait.training.optimization import GradientOptions
from plait_registry import Registry
from plait_vision.image_classification.timm_models import TimmClassifier
from plait_vision.images import ImageExample

SEED = 7
BATCH = 16  # images
SIDE = 64  # pixels
CLASSES = 10
RATE = 1e-3
LOG_EVERY = 10  # steps, Plait's default
NETWORKS: Mapping[str, dict[str, Any]] = {
    "resnet18": {"name": "timm/resnet18"},
    "vit-tiny": {"name": "timm/vit_tiny_patch16_224"},
}


@dataclass(frozen=True, slots=True)
class Timing:
    """One training of one contender.

    Args:
        cpu, wall: seconds of the loop.
        weights: parameters and buffers after the last step, by name.
    """

    cpu: float
    wall: float
    weights: Mapping[str, torch.Tensor]


class Stopwatch:
    """CPU and wall time between two moments. It does not know what happens between them."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def start(self) -> None:
        self.cpu, self.wall = -time.process_time(), -time.perf_counter()

    def stop(self) -> None:
        self.cpu, self.wall = self.cpu + time.process_time(), self.wall + time.perf_counter()


@dataclass(frozen=True, slots=True)
class Workload:
    """A network and the images that it is trained on.

    Args:
        network: a key of `NETWORKS`.
        images: uint8 [images, height, width, channels].
        labels: int64 [images].
    """

    network: str
    images: np.ndarray[Any, np.dtype[np.uint8]]
    labels: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def make(cls, network: str, *, steps: int) -> Workload:
        """Random images for so many steps in one epoch: what is in them does not change what a step costs."""
        random = np.random.default_rng(SEED)
        images = random.integers(0, 256, (steps * BATCH, SIDE, SIDE, 3), dtype=np.uint8)
        return cls(network, images, random.integers(0, CLASSES, steps * BATCH))

    @property
    def steps(self) -> int:
        return len(self.images) // BATCH

    def model(self) -> TimmClassifier:
        """A fresh model: the same weights every time."""
        labels = [str(label) for label in range(CLASSES)]
        options = TimmClassifier.Options.model_validate(
            {**NETWORKS[self.network], "image_size": SIDE, "augment": "none", "mean": 0.5, "std": 0.25}
        )
        problem = {"labels": labels, "height": SIDE, "width": SIDE, "channels": 3}
        return TimmClassifier.create(options=options, problem=problem, train=None, seed=SEED)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 [images, channels, height, width] and labels, as a hand-written loop would hold them."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(self.labels)


def by_hand(work: Workload, folder: Path) -> Timing:
    """The loop that a user would write in plain torch."""
    model, (images, labels) = work.model(), work.tensors()
    network, layout = model.network, _layout(model)
    network.to(memory_format=layout)
    mean, std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0)
    torch.manual_seed(SEED)
    network.train()
    watch = Stopwatch()
    watch.start()
    order = torch.from_numpy(np.random.default_rng((SEED, 0)).permutation(len(images)))
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        x = images[chosen].float().div_(255).sub_(mean).div_(std).contiguous(memory_format=layout)
        loss = F.cross_entropy(network(x), labels[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    watch.stop()
    return Timing(watch.cpu, watch.wall, _weights(network))


def plait(work: Workload, folder: Path) -> Timing:
    """The gradient trainer over the local engine, with the run's own metrics file and TensorBoard events."""
    model = work.model()
    examples = [
        ImageExample(image, str(label)) for image, label in zip(work.images, work.labels.tolist(), strict=True)
    ]
    options = GradientOptions(
        epochs=1, batch_size=BATCH, learning_rate=RATE, weight_decay=0, clip=None, schedule="constant", warmup=0
    )
    watch = Stopwatch()
    events = _Timed(watch, folder)
    set_seed(SEED)
    GradientTrainer(options).fit(
        Fit(
            model=model, engine=LocalEngine(EngineOptions(device="cpu")), train=examples, evaluate=None, primary=None,
            seed=SEED, checkpoints=_NoCheckpoints(watch), events=events, stop=lambda: None,
        )  # type: ignore[arg-type]  # a stand-in that writes nothing
    )  # fmt: skip
    events.fit_ended("finished")
    return Timing(watch.cpu, watch.wall, _weights(model.network))
