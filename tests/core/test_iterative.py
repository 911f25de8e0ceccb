"""The iterative trainer: the same events, checkpoints and resume as the gradient trainer."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import plait
from plait.errors import Interrupted, NonFiniteError
from plait.logs import Listeners
from plait.task import select
from plait.training.iterative import _own_part
from plait.weights import load_tensors
from tests.core.test_gradient import QUIET, history
from tests.toys import Means, Point, Points, points


def train(out: Path, *, data: Any = None, resume: bool = False, **options: Any) -> plait.Run:
    registry = plait.registry(Points, Means)
    given = points() if data is None else data
    return plait.train(
        Points, "toy/means", given, out=out, trainer=options, output=QUIET, resume=resume, registry=registry
    )


def means(run: plait.Run) -> torch.Tensor:
    return load_tensors(run.path / "model" / "model.safetensors")["means"]


def test_a_fit_converges_to_the_class_means(tmp_path: Path) -> None:
    data = {"train": points()}
    run = train(tmp_path / "run", data=data)
    assert run.info["reason"] == "converged"
    for row, name in zip(means(run), "abc", strict=True):
        expected = torch.tensor([each.x for each in data["train"] if each.label == name], dtype=torch.float64).mean(0)
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stop_at", [1, 6, 7])  # the evaluation after iteration 6 is cut off and made up for
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    straight = train(tmp_path / "straight", evaluate_every=3)
    original = Listeners.stepped

    def stop_after(self: Listeners, step: int) -> None:
        original(self, step)
        if step == stop_at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Listeners, "stepped", stop_after)
    with pytest.raises(Interrupted, match=f"after step {stop_at}") as raised:
        train(tmp_path / "stopped", evaluate_every=3)
    assert raised.value.exit_code == 130
    monkeypatch.undo()
    resumed = train(tmp_path / "stopped", evaluate_every=3, resume=True)
    assert torch.equal(means(resumed), means(straight))
    assert history(resumed) == history(straight)
    assert resumed.metrics == straight.metrics


def test_a_stop_in_the_last_evaluation_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(tmp_path / "straight")
    original = Listeners.stepped

    def stop_at_the_end(self: Listeners, step: int) -> None:
        original(self, step)
        if step == straight.info["steps"]:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Listeners, "stepped", stop_at_the_end)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped")
    monkeypatch.undo()
    resumed = train(tmp_path / "stopped", resume=True)
    assert resumed.info["reason"] == "converged"
    assert history(resumed) == history(straight)


def test_iterations_end_a_fit_that_has_not_converged(tmp_path: Path) -> None:
    run = train(tmp_path / "run", iterations=2)
    assert (run.info["reason"], run.info["steps"]) == ("done", 2)
    run.update(status="failed")
    more = train(tmp_path / "run", iterations=4, resume=True)  # more iterations may be asked for later
    assert more.info["steps"] == 4


def test_parameters_that_become_nan_stop_the_fit_and_keep_the_last_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Means.step

    def spoilt(self: Means, data: Any, state: Any, engine: Any) -> Any:
        new, progress = original(self, data, state, engine)
        if state.values["moved"] is not None and state.values["moved"] < 0.2:
            new.tensors["means"][0, 0] = float("nan")
        return new, progress

    monkeypatch.setattr(Means, "step", spoilt)
    with pytest.raises(NonFiniteError, match="means of the model became NaN"):
        train(tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert torch.isfinite(load_tensors(newest / "state.safetensors")["means"]).all()


@pytest.mark.parametrize("save_every", [None, 1000])
def test_the_best_state_can_be_selected(tmp_path: Path, save_every: int | None) -> None:
    data = {"train": points(30), "valid": points(60, seed=4), "test": points(60, seed=4)}
    run = train(tmp_path / "run", data=data, evaluate_every=1, save_every=save_every, select="best")
    judged = [line["metrics"]["accuracy"] for line in history(run) if line["split"] == "valid"]
    assert run.metrics["test"]["accuracy"] == max(judged)


def test_a_loaded_model_predicts_as_the_fitted_one(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    predictor = plait.load(run.path, registry=plait.registry(Points, Means))
    inputs = [{"point": each.x} for each in points(20, seed=8)]
    answers = [each.prediction for each in predictor(inputs)]
    right = [answer == each.label for answer, each in zip(answers, points(20, seed=8), strict=True)]
    assert sum(right) > 12
    assert json.loads((run.path / "model" / "plait.json").read_text())["task"] == "toy/points"


def test_a_wrong_input_is_answered_and_the_others_too(tmp_path: Path) -> None:
    predictor = plait.load(train(tmp_path / "run").path, registry=plait.registry(Points, Means))
    answers = predictor.predict([{"point": [1, 0, 0, 0]}, {"point": "north"}, {"pint": 1}, [0, 1, 0, 0]])
    assert [each.error is None for each in answers] == [True, False, False, True]
    assert "a point is four numbers" in str(answers[1].error)
    assert "unknown pint; missing point" in str(answers[2].error)


def test_evaluating_on_other_data_and_on_the_runs_own_splits(tmp_path: Path) -> None:
    registry = plait.registry(Points, Means)
    run = train(tmp_path / "run")
    other = [Point(each.x, each.label, f"q{i}") for i, each in enumerate(points(50, seed=9))]
    found = plait.evaluate(run, {"test": other}, registry=registry)
    assert (found.split, found.examples) == ("test", 50)
    everything = plait.evaluate(run, other, registry=registry)  # no split is drawn from data to be judged
    assert everything.metrics == found.metrics


def test_the_part_of_a_table_that_a_process_fits_on_is_a_slice() -> None:
    class Interactions:
        def __len__(self) -> int:
            return 10**12  # a list of so many positions would not fit anywhere

        def __getitem__(self, index: int) -> int:
            return index

        def table(self, columns: list[str]) -> pa.Table:
            return pa.table({"item": range(6)})

    assert len(_own_part(Interactions(), rank=1, world_size=4)) == 10**12 // 4
    assert select(Interactions(), range(2, 5)).table(["item"]).to_pydict() == {"item": [2, 3, 4]}  # type: ignore[attr-defined]  # columnar
    assert select(Interactions(), [5, 0]).table(["item"]).to_pydict() == {"item": [5, 0]}  # type: ignore[attr-defined]  # columnar
