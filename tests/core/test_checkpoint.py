"""Checkpoints: what a killed or unlucky run goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from plait.checkpoint import Checkpoints
from plait.errors import IntegrityError
from tests.core.test_gradient import assert_equal, history, train
from tests.toys import points


def test_a_checkpoint_that_a_killed_writer_had_moved_aside_is_put_back(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight")
    killed = train(tmp_path / "killed")
    checkpoints = killed.path / "checkpoints"
    newest = max(checkpoints.iterdir())
    shutil.copytree(newest, checkpoints / f".{newest.name}.writing")  # the new one was not renamed any more
    newest.rename(checkpoints / f".{newest.name}.old")
    killed.update(status="running")
    assert_equal(train(tmp_path / "killed", resume=True), straight)
    assert "fit starts at step 20 of 20" in (killed.path / "log.txt").read_text()
    assert not [each.name for each in checkpoints.iterdir() if each.name.startswith(".")]


def test_a_step_is_saved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    original = Checkpoints.save

    def save(self: Checkpoints, step: int, *args: object, **options: object) -> Path:
        saved.append(step)
        return original(self, step, *args, **options)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(Checkpoints, "save", save)
    train(tmp_path / "run", epochs=2, save_every=1)  # evaluations save as well, at the end of each epoch
    assert saved == list(range(1, 11))


def test_a_run_whose_best_checkpoint_is_damaged_can_end_with_the_newest_weights(tmp_path: Path) -> None:
    data = {"train": points(64), "valid": points(200, seed=9)}
    options = {"data": data, "epochs": 12, "learning_rate": 0.3, "schedule": "constant"}
    run = train(tmp_path / "run", **options)
    best = run.info["best_step"]
    assert best != run.info["steps"]
    (run.path / "checkpoints" / f"step-{best:08d}" / "trainer.json").write_text("{}")
    run.update(status="failed")
    with pytest.raises(IntegrityError, match="the best checkpoint is damaged") as raised:
        train(run.path, resume=True, **options)
    assert "trainer.select=last" in str(raised.value.hint)
    ended = train(run.path, resume=True, select="last", **options)
    assert ended.info["best_step"] == run.info["steps"]


def test_a_run_without_its_metrics_file_goes_on(tmp_path: Path) -> None:
    run = train(tmp_path / "run", epochs=2)
    (run.path / "metrics.jsonl").unlink()
    run.update(status="failed")
    assert train(run.path, epochs=2, resume=True).status == "finished"
    assert history(run) == []  # what is lost is lost; no zero bytes stand for it
