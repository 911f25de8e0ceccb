"""What tests of several processes train: networks whose layers or whose losses look across the examples of a batch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plait
from plait.engine.peers import Peers
from plait.model import Batch, Output
from plait_registry import ModelSpec
from tests.toys import Net, NetOptions, Points, points


class CrossOptions(NetOptions):
    norm: bool = True
    """Whether batch norm is there."""
    compare: bool = False
    """Whether the loss is to find each example's other half among those of the batch."""


class Noisy(nn.BatchNorm2d):
    """Batch norm that does more than that, as timm's does."""

    def forward(self, values: Tensor) -> Tensor:
        return F.gelu(super().forward(values))


class Cross(Net):
    """Blocks with batch norm in every form: a subclass, with and without weights, cumulative, one that is used twice,
    and one that only the loss needs."""

    Options = CrossOptions
    spec = ModelSpec(
        name="toy/cross", summary="Looks across examples.", target="tests.core.crossing_cases:Cross",
        tasks=("toy/points",), trainer="gradient",
    )  # fmt: skip

    def __init__(self, *, options: CrossOptions, problem: Any, processor: Any) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        width, norm = options.hidden, options.norm
        self.compares_examples = options.compare
        self.body = nn.Sequential(nn.Conv2d(1, width, 2, padding=1), Noisy(width) if norm else nn.GELU())
        kinds = [nn.BatchNorm2d(width), nn.BatchNorm2d(width, affine=False), nn.BatchNorm2d(width, momentum=None)]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), kind if norm else nn.Identity(), nn.Tanh()) for kind in kinds
        )
        self.last = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.other = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width) if norm else nn.Identity())

    def forward(self, batch: Batch) -> Output:
        hidden = self.body(batch["x"].view(-1, 1, 2, 2))
        for block in (*self.blocks, self.blocks[0]):
            hidden = block(hidden)
        places = self.last(hidden.flatten(2))
        hidden = places.mean(2)
        logits = self.head(hidden)
        if "y" not in batch.tensors:
            return Output(None, logits)
        loss, aside = F.cross_entropy(logits, batch["y"]), self.other(places).square().mean(2)
        if self.options.compare:
            others, first = batch.across(aside)
            own = torch.arange(len(hidden), device=hidden.device) + first
            loss = loss + F.cross_entropy(hidden @ others.T, own)
        return Output(loss + aside.mean(), logits)


def fit(
    out: Path, *, compare: bool = False, norm: bool = True, trainer: dict[str, Any] | None = None, **engine: Any
) -> plait.Run:
    """14 steps with SGD; the last batch of each epoch is of two examples, and so leaves a third process idle."""
    return plait.train(
        Points, {"name": "toy/cross", "compare": compare, "norm": norm}, {"train": points(50), "valid": points(10, 1)},
        seed=3, out=out, engine={"device": "cpu", "sync_batch_norm": norm, **engine},
        trainer={
            "max_steps": 14, "batch_size": 8, "log_every": 1, "optimizer": "sgd", "learning_rate": 0.05,
            "momentum": 0.9, "weight_decay": 0.0, **(trainer or {}),
        },
        output={"baselines": False, "report": False, "tensorboard": False}, registry=plait.registry(Points, Cross),
    )  # fmt: skip


def fits(folder: Path, cases: list[tuple[str, dict[str, Any]]]) -> None:
    """Several of them, one after the other."""
    for name, options in cases:
        fit(folder / name, **options)


REAL: dict[str, tuple[str, dict[str, Any], str]] = {
    "cnn": ("vision/image-classification", {"name": "vision/cnn", "dropout": 0.0}, "digits"),
    "timm": ("vision/image-classification", {"name": "timm/test_resnet"}, "digits"),
    "speech-cnn": ("speech/word-recognition", {"name": "speech/cnn", "dropout": 0.0}, "synthetic-words"),
    "conformer": ("speech/word-recognition", {"name": "speech/conformer", "dropout": 0.0}, "synthetic-words"),
    "sentences": (
        "nlp/sentence-embedding",
        {
            "name": "transformers/bert", "hidden": 16, "layers": 2, "heads": 2, "intermediate": 32, "vocabulary": 200,
            "dropout": 0.0,
        },
        "synthetic-questions",
    ),
    "two-tower": (
        "recommendation/retrieval",
        {"name": "recommendation/two-tower", "width": 8, "hidden": 16, "dropout": 0.0, "forget": 0.0},
        "synthetic-interactions",
    ),
}  # fmt: skip
"""Models of the plugins: task, model block and data."""


def fit_real(name: str, out: Path, **engine: Any) -> plait.Run:
    """Four steps with SGD; Adam would divide small differences by small numbers."""
    task, model, source = REAL[name]
    return plait.train(
        task, model, {"source": source, "limit": 60}, out=out,
        engine={"device": "cpu", "sync_batch_norm": True, **engine},
        trainer={"max_steps": 4, "batch_size": 20, "log_every": 1, "optimizer": "sgd", "learning_rate": 0.01},
        output={"baselines": False, "report": False, "tensorboard": False},
    )  # fmt: skip


def fits_real(folder: Path, cases: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Several of them, one after the other."""
    for name, model, options in cases:
        fit_real(model, folder / name, **options)


class _Threads(Peers):
    """Ranks that are threads of one process."""

    def __init__(self, rank: int, size: int, meeting: threading.Barrier, told: list[Any]) -> None:
        super().__init__(rank=rank, size=size)
        self._meeting, self._told = meeting, told

    def each(self, value: Tensor) -> Tensor:
        self._told[self.rank] = value.detach().clone()
        self._meeting.wait(30)
        found = torch.stack(list(self._told))
        self._meeting.wait(30)
        return found

    def total(self, value: Tensor) -> Tensor:
        return self.each(value).sum(0)


def together(size: int, act: Any) -> list[Any]:
    """What `act(peers)` gives in each of `size` threads."""
    meeting, told, answers = threading.Barrier(size), [None] * size, [None] * size

    def one(rank: int) -> None:
        try:
            answers[rank] = act(_Threads(rank, size, meeting, told))
        except BaseException as error:
            answers[rank] = error
            if not isinstance(error, ValueError):
                meeting.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return answers
