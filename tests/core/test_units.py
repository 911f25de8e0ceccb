"""An epoch of training visits the units of the processor, which may be others than the examples of the split."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.errors import DataError, Interrupted
from plait.logs import Listeners
from plait.task import Problem, Split
from tests.core.test_gradient import QUIET, assert_equal, history
from tests.toys import Net, NetOptions, PointProcessor, Points, points


class Doubled(PointProcessor):
    """An epoch visits every labelled point twice, as a recommender visits a user's several interactions."""

    def units(self, train: Split) -> Split:
        return [train[index] for index in range(len(train)) for _ in range(2) if train[index].label is not None]


class NetOfUnits(Net):
    ProcessorType = Doubled
    spec = replace(Net.spec, name="toy/net-of-units", target="tests.core.test_units:NetOfUnits")

    @classmethod
    def fit_processor(cls, *, options: NetOptions, problem: Problem, train: Split | None, seed: int) -> Doubled:
        return Doubled(problem["labels"], options.noise)


def train_units(out: Path, data: Any, *, resume: bool = False) -> plait.Run:
    return plait.train(
        Points, {"name": "toy/net-of-units", "noise": 0.1, "dropout": 0.2}, data, seed=3, out=out, output=QUIET,
        trainer={"epochs": 3, "batch_size": 16, "log_every": 1}, resume=resume,
        registry=plait.registry(Points, NetOfUnits),
    )  # fmt: skip


def test_an_epoch_visits_the_units_of_the_processor_and_a_resume_inside_one_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"train": points(24), "valid": points(8, seed=1)}  # 48 units: three steps an epoch
    whole = train_units(tmp_path / "whole", data)
    assert whole.info["steps"] == 9
    assert [line["metrics"]["epoch"] for line in history(whole) if line["split"] == "train"][2::3] == [1.0, 2.0, 3.0]

    def interrupt(self: Listeners, step: int) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Listeners, "stepped", interrupt)
    with pytest.raises(Interrupted):
        train_units(tmp_path / "cut", data)
    monkeypatch.undo()
    assert_equal(whole, train_units(tmp_path / "cut", data, resume=True))


def test_a_training_split_without_units_is_refused_before_the_first_step(tmp_path: Path) -> None:
    unlabelled = [replace(point, label=None) for point in points(8)]
    with pytest.raises(DataError, match="toy/net-of-units finds nothing to learn in the 8 training examples"):
        train_units(tmp_path / "run", {"train": unlabelled})
