"""What does a training step cost in a trainer, measured beside the same step of a loop written by hand?

Both train the same network from the same weights on the same pixels: uint8 images 64x64, batches of 16, AdamW at its
defaults but for the decay, which is 0 (Plait would spare biases), the learning rate constant, one thread; no clipping,
unless all clip. The hand-written loop is what a user would write: choose, scale, normalise, forward, cross-entropy,
backward, step, clear. Its order of images is that of Plait's (seed, epoch), so that the weights must come out equal bit
for bit.

They take turns, a step each: at the end of every step the trainer calls back, and the hand-written loop makes its step
there; then a second hand-written loop makes its own, whose ratio to the first says how far the numbers can be trusted.
So whatever else the machine does falls on all alike. A step counts with all that belongs to it: the batch, the update,
what the trainer logs every 10 steps. Set-up, checkpoints and reports are outside, and so are the first steps, in which
torch prepares kernels and memory. Nothing is subtracted. A round is some steps in a row; its ratio is the CPU time of
the trainer's steps over the mean of the two hand-written loops', and the median over the rounds is what counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

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

SEED = 7
BATCH = 16  # images
SIDE = 64  # pixels
CLASSES = 10
RATE = 1e-3
MEAN, STD = 0.5, 0.25
LOG_EVERY = 10  # steps: Plait's default
WARM_UP = 4  # steps that do not count
NETWORKS = {"resnet18": "timm/resnet18", "vit-tiny": "timm/vit_tiny_patch16_224"}


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


def by_plait(work: Work, folder: Path, after_step: AfterStep) -> torch.nn.Module:
    """The gradient trainer over the local engine, with a real run's metrics file and TensorBoard events."""
    model = work.model()
    pairs = zip(work.images, map(str, work.labels.tolist()), strict=True)
    options = GradientOptions(
        epochs=1, batch_size=BATCH, learning_rate=RATE, weight_decay=0, schedule="constant", warmup=0,
        clip=work.clip, log_every=LOG_EVERY,
    )  # fmt: skip
    events = Listeners(folder, Registry.discover(), display=None, tensorboard=True)
    set_seed(SEED)
    store: Any = NoCheckpoints()
    fit = Fit(
        model=model, engine=LocalEngine(EngineOptions(device="cpu")), train=[ImageExample(*each) for each in pairs],
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


class Turns:
    """A trainer and hand-written loops, which make a step each in turn. It does not know what a step does.

    Args:
        loops: the hand-written ones.
    """

    def __init__(self, *loops: Iterator[None]) -> None:
        self._loops = loops
        self.cpu: list[list[float]] = [[] for _ in range(1 + len(loops))]
        """Seconds of each step: of the trainer, then of each loop."""
        self.wall: list[list[float]] = [[] for _ in range(1 + len(loops))]
        self._since = time.process_time(), time.perf_counter()

    def after_step(self) -> None:
        """The trainer has made a step; now it is the others' turn."""
        self._count(0)
        for index, loop in enumerate(self._loops):
            next(loop)
            self._count(1 + index)

    def _count(self, index: int) -> None:
        self.cpu[index].append(time.process_time() - self._since[0])
        self.wall[index].append(time.perf_counter() - self._since[1])
        self._since = time.process_time(), time.perf_counter()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A trainer beside the hand-written loop.

    Args:
        ratios: CPU time of the trainer over the mean of the two hand-written loops, for each round.
        floor: that of the second hand-written loop over the first: what the machine adds.
        cpu, wall: median seconds of a step of the trainer and of the hand-written loop.
        equal: whether all parameters and buffers ended equal, bit for bit.
    """

    ratios: Sequence[float]
    floor: Sequence[float]
    cpu: tuple[float, float]
    wall: tuple[float, float]
    equal: bool

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)


def compare(
    trainer: Trainer, network: str, folder: Path, *, rounds: int, steps: int, clip: float | None = None
) -> Comparison:
    """Train a network by a trainer and by hand, on one thread: so many rounds of so many steps.

    Args:
        folder: where the trainer may write.
    """
    work = Work.make(network, steps=WARM_UP + rounds * steps, clip=clip)
    own, layout = work.network_and_layout()
    other, _ = work.network_and_layout()
    turns = Turns(by_hand(own, layout, work), by_hand(other, layout, work))
    with one_thread():
        trained = trainer(work, folder, turns.after_step)
    theirs, hand, again = (np.array(each[WARM_UP:]).reshape(rounds, steps).sum(1) for each in turns.cpu)
    expected = own.state_dict()
    cpu, wall = ([statistics.median(each[WARM_UP:]) for each in times[:2]] for times in (turns.cpu, turns.wall))
    return Comparison(
        ratios=(2 * theirs / (hand + again)).tolist(),
        floor=(again / hand).tolist(),
        cpu=(cpu[0], cpu[1]),
        wall=(wall[0], wall[1]),
        equal=all(torch.equal(each, expected[name]) for name, each in trained.state_dict().items()),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread: two on shared cores wait for each other, and waiting is CPU time too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
