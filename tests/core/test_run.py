"""Run directories: who may write them, what they refuse, how old ones are read."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import fitting
from plait import run as run_module
from plait.errors import (
    DataError,
    IntegrityError,
    Interrupted,
    NonFiniteError,
    PluginError,
    RecipeError,
    RunError,
    StorageError,
)
from plait.lock import locked
from plait.run import Run, check_free, find_runs
from tests.core.test_gradient import QUIET, assert_equal, train
from tests.toys import Means, Net, Points, points

RUN = {"task": "toy/points", "model": "toy/net"}


def test_an_existing_run_is_not_written_over(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.raises(RunError, match="a run is already there") as raised:
        train(tmp_path / "run")
    assert "--resume" in str(raised.value.hint)


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(RunError, match=r"not empty and not a run \(it has thesis\.tex\)"):
            train(tmp_path, resume=resume)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="is not a directory"):
        check_free(tmp_path / "run", resume=False)


def test_resuming_what_has_no_checkpoint_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / ".step-00000005.writing").mkdir(parents=True)
    assert train(tmp_path / "run", resume=True).status == "finished"
    assert train(tmp_path / "other", resume=True).status == "finished"


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from plait.run import locked\nwith locked(Path(sys.argv[1])): pass"
    with locked(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert "another process is writing this run" in second.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_a_run_of_a_newer_plait_names_the_remedy(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {}, {**RUN, "versions": {"plait": "9.1"}})
    run.update(schema=run_module.SCHEMA + 1)
    with pytest.raises(RunError, match="schema version") as raised:
        Run.open(tmp_path / "run")
    assert "pip install --upgrade plait" in str(raised.value.hint)
    assert "9.1" in str(raised.value.hint)


def test_an_older_run_is_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(info: dict[str, Any]) -> dict[str, Any]:
        info["task"] = info.pop("problem_type")
        return info

    monkeypatch.setitem(run_module.MIGRATIONS, run_module.SCHEMA - 1, rename)
    run = Run.create(tmp_path / "run", {}, RUN)
    info = {**run.info, "schema": run_module.SCHEMA - 1, "problem_type": "toy/old"}
    del info["task"]
    (run.path / "run.json").write_text(json.dumps(info))
    assert Run.open(run.path).task == "toy/old"
    monkeypatch.delitem(run_module.MIGRATIONS, run_module.SCHEMA - 1)
    with pytest.raises(RunError, match="too old"):
        Run.open(run.path)


def test_a_damaged_status_file_is_named_and_does_not_hide_other_runs(tmp_path: Path) -> None:
    Run.create(tmp_path / "good", {}, RUN)
    Run.create(tmp_path / "bad", {}, RUN)
    (tmp_path / "bad" / "run.json").write_text('{"schema": 1, "ta')
    with pytest.raises(RunError, match=r"bad/run\.json: damaged"):
        Run.open(tmp_path / "bad")
    assert {run.path.name: run.status for run in find_runs(tmp_path)} == {"good": "died", "bad": "unreadable"}


def test_a_misspelt_directory_gets_a_near_name(tmp_path: Path) -> None:
    Run.create(tmp_path / "digits-cnn", {}, RUN)
    with pytest.raises(RunError, match="no such run directory") as raised:
        Run.open(tmp_path / "digit-cnn")
    assert "digits-cnn" in str(raised.value.hint)


def test_nan_is_null_in_run_json(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {}, RUN)
    run.update(metrics={"test": {"loss": float("nan"), "accuracy": 0.5}})
    assert json.loads((run.path / "run.json").read_text())["metrics"] == {"test": {"loss": None, "accuracy": 0.5}}


def test_data_that_changed_are_not_resumed_from(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    run.update(status="failed")
    with pytest.raises(DataError, match="have changed since the run was started"):
        train(tmp_path / "run", data=points(seed=1), resume=True)


def test_every_file_of_a_model_directory_is_guarded(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    registry = plait.registry(Points, Net, Means)
    for path in sorted((run.path / "model").iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IntegrityError, match=path.name):
            plait.load(run.path, registry=registry)
        path.write_bytes(whole)
    assert plait.load(run.path, registry=registry)({"point": [1, 0, 0, 0]}).prediction in {"a", "b", "c"}


def test_a_run_whose_plugin_is_absent_or_older_says_what_to_install(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    with pytest.raises(PluginError, match="toy/points") as raised:
        plait.load(run.path)
    assert raised.value.hint == "pip install this-program"
    registry = plait.registry(Points, Net)
    from plait.sealed import seal

    card = json.loads((run.path / "model" / "plait.json").read_text())
    card["plugins"] = {"this-program": "7.0"}
    (run.path / "model" / "plait.json").write_text(json.dumps(card))
    for name in ("manifest.json", "COMPLETE"):
        (run.path / "model" / name).unlink()
    seal(run.path / "model")
    with pytest.raises(PluginError, match=r"was written with this-program 7\.0, and 0 is installed") as raised:
        plait.load(run.path, registry=registry)
    assert raised.value.hint == 'pip install --upgrade "this-program>=7.0"'


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    """A real limit of the system: files may grow to 60 KB, and the network is made larger than that after a while."""
    straight = train(tmp_path / "straight")
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
import plait
from plait.logs import Listeners
from tests.core.test_gradient import QUIET, assert_equal, train
saved = Listeners.saved
def full_after(self, step, path):
    saved(self, step, path)
    if step == 10:
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
Listeners.saved = full_after
try:
    train(Path({str(tmp_path / "run")!r}))
except plait.PlaitError as error:
    print(type(error).__name__, error.exit_code, error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("StorageError 2 "), ended.stderr
    assert "--resume" in ended.stdout
    names = sorted(each.name for each in (tmp_path / "run" / "checkpoints").iterdir())
    assert names[-1] == "step-00000010"
    resumed = train(tmp_path / "run", resume=True)
    assert_equal(resumed, straight)


def test_a_run_that_is_read_only_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="the file system is read-only"):
        Run.create(tmp_path / "run", {}, RUN)


def test_model_from_needs_a_run_with_a_fitting_model(tmp_path: Path) -> None:
    means = plait.train(
        Points,
        Means,
        points(),
        out=tmp_path / "means",
        registry=plait.registry(Points, Means),
        output=QUIET,
    )
    with pytest.raises(RecipeError, match=r"model\.from=.*means: Means has no network weights"):
        plait.train(
            Points, {"name": "toy/net", "from": str(means.path)}, points(), out=tmp_path / "run",
            registry=plait.registry(Points, Means, Net),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()  # nothing is written for what the user can mend


def test_a_run_is_evaluated_without_the_run_that_it_started_from(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    second = train(tmp_path / "second", model={"from": str(first.path)})
    shutil.rmtree(first.path)
    found = plait.evaluate(second, {"test": points(20, seed=4)}, registry=plait.registry(Points, Net))
    assert found.examples == 20


def test_a_run_that_succeeds_at_last_does_not_say_that_it_failed(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        train(tmp_path / "run", model={"poison": 11})
    assert "not finite" in Run.open(tmp_path / "run").info["error"]
    finished = train(tmp_path / "run", model={"poison": 11}, resume=True, max_skipped_steps=1)
    assert finished.status == "finished"
    assert not {"error", "resume"} & Run.open(tmp_path / "run").info.keys()


def test_a_run_that_another_process_finishes_meanwhile_is_returned_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path / "run")
    run.update(status="interrupted")
    original = fitting.Prepared.make

    def meanwhile(*args: Any) -> Any:
        run.update(status="finished", seconds=-1)
        return original(*args)

    monkeypatch.setattr(fitting.Prepared, "make", meanwhile)
    assert train(tmp_path / "run", resume=True).info["seconds"] == -1


class Compared(Points):
    assert Points.spec is not None
    spec = replace(Points.spec, name="toy/compared", target="tests.core.test_run:Compared", baselines=("toy/means",))


def compared(out: Path, **trainer: Any) -> plait.Run:
    return plait.train(
        Compared, "toy/net", points(), out=out, trainer={"epochs": 1, **trainer}, output={**QUIET, "baselines": True},
        registry=plait.registry(Compared, Net, Means),
    )  # fmt: skip


def test_the_time_limit_does_not_cut_the_baselines_short(tmp_path: Path) -> None:
    whole = compared(tmp_path / "whole").info["baselines"]
    assert compared(tmp_path / "limited", max_time=1e-6).info["baselines"] == whole
    assert whole["toy/means"]["valid"]["accuracy"] > 0.5


def test_a_baseline_that_fails_does_not_cost_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("no points at all")

    monkeypatch.setattr(Means, "step", broken)
    run = compared(tmp_path / "run")
    assert run.status == "finished"
    assert "baseline toy/means: ZeroDivisionError: no points at all" in run.info["notes"]
    assert "Traceback" in (run.path / "log.txt").read_text()


def test_a_run_holds_its_paths_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train(Path("first"))
    second = train(Path("second"), model={"from": "first"}, epochs=1)
    assert second.recipe()["model"]["from"] == str(tmp_path / "here" / "first")
    run = Run.open(tmp_path / "here" / "second")
    run.update(status="interrupted")
    monkeypatch.chdir(tmp_path)
    assert train(run.path, model={"from": "here/first"}, epochs=1, resume=True).status == "finished"


def test_a_finished_run_is_returned_when_the_run_that_it_started_from_is_gone(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    second = train(tmp_path / "second", model={"from": str(first.path)})
    shutil.rmtree(first.path)
    (tmp_path / "again.yaml").write_text((second.path / "recipe.yaml").read_text())
    found = plait.registry(Points, Net)
    again = plait.train(str(tmp_path / "again.yaml"), out=second.path, resume=True, registry=found)
    assert again.metrics == second.metrics


def test_a_signal_in_the_last_moments_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = fitting.save_predictions

    def cut_off(run: Path, split: str, *args: Any, **settings: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return saved(run, split, *args, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(fitting, "save_predictions", cut_off)
        with pytest.raises(Interrupted) as stopped:
            train(tmp_path / "run")
    assert stopped.value.exit_code == 143
    assert Run.open(tmp_path / "run").status == "interrupted"
    assert_equal(train(tmp_path / "run", resume=True), train(tmp_path / "straight"))


def test_damaged_files_of_a_run_are_named(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    (run.path / "predictions" / "valid.parquet").write_bytes(b"{")
    with pytest.raises(IntegrityError, match=r"valid\.parquet: damaged"):
        plait.compare(run, run, split="valid", registry=plait.registry(Points, Net))
    (run.path / "recipe.yaml").write_bytes(b"{")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:1: not valid YAML"):
        run.recipe()


def test_a_damaged_line_of_the_metrics_is_left_out_of_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\xff\x00\n{"step": 2}\n')
    assert fitting.read_history(tmp_path) == [{"step": 1}, {"step": 2}]
    assert "metrics.jsonl:2" in caplog.text
