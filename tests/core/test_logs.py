"""What is logged can be read again."""

from __future__ import annotations

import math
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from plait.logs import Listeners
from plait_registry import Registry


def test_tensorboard_has_every_scalar_under_its_name(tmp_path: Path) -> None:
    events = Listeners(tmp_path, Registry([]), display=None, tensorboard=True)
    events.logged(1, {"loss": 2.5, "learning_rate": 0.1}, {"examples_per_second": 40.0})
    events.logged(2, {"loss": math.nan, "learning_rate": 0.05}, {"examples_per_second": 50.0})
    events.evaluated(2, "valid", {"accuracy": 0.75})
    events.fit_ended("finished")
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    found = {name: [(each.step, each.value) for each in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert set(found) == {"train/loss", "train/learning_rate", "speed/examples_per_second", "valid/accuracy"}
    assert found["train/loss"][0] == (1, 2.5)
    assert math.isnan(found["train/loss"][1][1])
    assert found["speed/examples_per_second"] == [(1, 40.0), (2, 50.0)]
    assert found["valid/accuracy"] == [(2, 0.75)]
