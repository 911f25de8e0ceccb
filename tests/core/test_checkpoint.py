"""Checkpoints: what a killed or unlucky run goes on from."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import plait
from plait.checkpoint import Checkpoints, Writer
from plait.engine.shards import Shards
from plait.errors import IntegrityError, StorageError
from plait.logs import Listeners
from tests.core.test_agreement import Ranks, everywhere
from tests.core.test_gradient import QUIET, assert_equal, history, train
from tests.processes import ROOT
from tests.toys import Means, Points, points


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

    def save(self: Checkpoints, step: int, *args: object, **options: object) -> None:
        saved.append(step)
        original(self, step, *args, **options)  # type: ignore[arg-type]  # passed on as they came

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


class Gate:
    """Holds the writers of checkpoints back, from step 10 on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.begun: list[str] = []
        original = Shards.write

        def write(shards: Shards, directory: Path) -> None:
            self.begun.append(directory.name)
            if directory.name == ".step-00000010.writing":
                assert self.opened.wait(60)
            original(shards, directory)

        monkeypatch.setattr(Shards, "write", write)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(tmp_path / "straight", save_every=2, average=0.9)
    gate, order = Gate(monkeypatch), []
    stepped, saved = Listeners.stepped, Listeners.saved

    def note_step(self: Listeners, step: int) -> None:
        stepped(self, step)
        order.append(("step", step))
        if step == 11:
            gate.opened.set()

    def note_saved(self: Listeners, step: int, path: Path) -> None:
        assert (path / "COMPLETE").is_file()
        saved(self, step, path)
        order.append(("saved", step))

    monkeypatch.setattr(Listeners, "stepped", note_step)
    monkeypatch.setattr(Listeners, "saved", note_saved)
    run = train(tmp_path / "run", save_every=2, average=0.9, save_in_background=True)
    assert order.index(("step", 11)) < order.index(("saved", 10)) < order.index(("step", 13))  # the next one waits
    assert [step for what, step in order if what == "saved"] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert_equal(run, straight)
    for step in (18, 20):
        for each in (run.path / "checkpoints" / f"step-{step:08d}").glob("*.safetensors"):
            other = straight.path / each.relative_to(run.path)
            assert each.read_bytes() == other.read_bytes()


# one thread in each process: sums of several threads round otherwise
AWKWARD = {"average": 0.9, "model": {"dropout": 0.3}, "engine": {"threads": 1}}


def test_a_run_killed_while_a_checkpoint_is_written_goes_on_from_the_one_before(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight", **AWKWARD)
    out = tmp_path / "run"
    code = f"""
import os, sys
from pathlib import Path
from plait.engine.shards import Shards
from tests.core.test_gradient import train

original = Shards.write
def write(shards, directory):
    original(shards, directory)
    if directory.name == ".step-00000015.writing":
        os.kill(os.getpid(), 9)

Shards.write = write
train(Path({str(out)!r}), **{AWKWARD!r}, save_in_background=True)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert max(each.name for each in (out / "checkpoints").glob("step-*")) == "step-00000010"
    assert_equal(train(out, resume=True, **AWKWARD, save_in_background=True), straight)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    stepped, original = Listeners.stepped, Shards.write

    def note(self: Listeners, step: int) -> None:
        stepped(self, step)
        steps.append(step)

    def full(shards: Shards, directory: Path) -> None:
        if directory.name == ".step-00000010.writing":
            raise OSError(errno.ENOSPC, "full")
        original(shards, directory)

    monkeypatch.setattr(Listeners, "stepped", note)
    monkeypatch.setattr(Shards, "write", full)
    monkeypatch.setattr(Writer, "running", property(lambda self: self._thread.join()))  # it has always ended
    with pytest.raises(StorageError, match=r"step-00000010: it could not be written, [\d,]{4,} bytes: no space"):
        train(tmp_path / "run", save_in_background=True)
    assert steps[-1] == 10  # the evaluation of step 10 saves, and `stop` is asked right after it
    assert sorted(each.name for each in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-00000005",
    ]
    monkeypatch.undo()
    assert_equal(train(tmp_path / "run", resume=True), train(tmp_path / "straight"))


@dataclass
class Text:
    """A rank's part of a checkpoint."""

    text: str
    room: int = 100

    @property
    def size(self) -> int:
        return len(self.text)

    def write(self, directory: Path) -> None:
        (directory / f"{self.text[:5]}.txt").write_text(self.text[: self.room])
        if len(self.text) > self.room:
            raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_is_full_on_one_rank_fails_the_checkpoint_on_all(background: bool, tmp_path: Path) -> None:
    aside = Ranks(3)

    def save(engine: Any) -> list[str]:
        engine.channel = lambda: aside.engine(engine.rank)
        told: list[str] = []
        checkpoints = Checkpoints(
            tmp_path, engine=engine, keep_last=2, background=background, warn=told.append,
            saved=lambda step, path: told.append(path.name),
        )  # fmt: skip
        checkpoints.save(1, {}, lambda: Text(f"rank{engine.rank}"))
        try:
            checkpoints.save(
                2, {}, lambda: Text(f"rank{engine.rank}" + "!" * 2000, room=6 if engine.rank == 1 else 3000)
            )
            checkpoints.settle()
        except StorageError as error:
            told.append(error.message)
        return told

    what = f"{tmp_path}/step-00000002: rank 1 could not write its part, 2,005 bytes: no space is left on the disk"
    assert everywhere(save) == [["step-00000001", what]] * 3
    assert [each.name for each in tmp_path.iterdir()] == ["step-00000001"]


def test_an_iterative_fit_saves_in_the_background_too(tmp_path: Path) -> None:
    options = {"data": points(), "output": QUIET, "registry": plait.registry(Points, Means)}
    straight = plait.train(Points, Means, out=tmp_path / "straight", **options)
    run = plait.train(Points, Means, out=tmp_path / "run", trainer={"save_in_background": True}, **options)
    assert_equal(run, straight)
    newest = max((run.path / "checkpoints").glob("step-*"))
    state = newest / "state.safetensors"
    assert state.read_bytes() == (straight.path / state.relative_to(run.path)).read_bytes()
