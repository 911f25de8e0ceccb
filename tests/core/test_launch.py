"""Several processes train one recipe; one of them may die, raise, or see what the others do not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import plait
from plait.engine.launch import JOB, Job, _handing_out
from plait.engine.world import World, first_host
from plait.errors import DataError, EngineError, LostRankError, NonFiniteError, RecipeError, StorageError
from tests.core.launch_cases import fit
from tests.core.test_gradient import assert_equal, history, weights
from tests.processes import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")


LEARN = {"stage": 3, "model": {"freeze": ["body"], "noise": 0.1}, "average": None}
"""Frozen batch norm looks across no examples; 72 for training in batches of 16 leave a short last one."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> plait.Run:
    """Two processes at ZeRO-3, undisturbed."""
    return fit(tmp_path_factory.mktemp("two") / "run", **LEARN)


def test_two_processes_learn_what_one_learns(two: plait.Run, tmp_path: Path) -> None:
    one = fit(tmp_path / "one", processes=1, **LEARN)
    assert (two.info["processes"], two.info["engine"]) == (2, "deepspeed")
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, rtol=1e-6, atol=1e-7)
    for before, after in zip(history(one), history(two), strict=True):
        assert after["metrics"] == pytest.approx(before["metrics"], rel=1e-6)
    assert plait.evaluate(two.path, two_data(), registry=plait.registry(*toys())).metrics["accuracy"] > 0.3
    assert sorted(each.name for each in (two.path / "logs").iterdir()) == ["rank-0.txt", "rank-1.txt"]


def test_a_rank_killed_in_the_second_epoch_starts_again_from_the_first(two: plait.Run, tmp_path: Path) -> None:
    """And the run ends with the bits of the undisturbed one."""
    assert_equal(fit(tmp_path / "run", trouble="kill", engine={"max_restarts": 1}, **LEARN), two)
    begun = (tmp_path / "run" / "logs" / "rank-0.txt").read_text().count("begins")
    assert begun == 2


def two_data() -> dict[str, list[object]]:
    from tests.toys import points

    return {"test": points(40, seed=9)}


def toys() -> tuple[type, ...]:
    from tests.core.launch_cases import Trouble
    from tests.toys import Points

    return Points, Trouble


@pytest.mark.slow
def test_an_exception_of_one_rank_ends_the_run_with_its_traceback_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"rank 1 failed: ValueError: a fault of rank 1 only") as raised:
        fit(tmp_path / "run", trouble="raise")
    assert raised.value.message.count("Traceback") == 1
    assert "go on from the last checkpoint" in str(raised.value.hint)
    assert time.monotonic() - begun < 120  # not the collectives' ten minutes
    assert "a fault of rank 1 only" in (tmp_path / "run" / "logs" / "rank-1.txt").read_text()


PROGRAM = """
import plait
from tests.core.launch_cases import QUIET, Points, Trouble, points

run = plait.train(
    Points, {"name": "toy/trouble"}, points(), out="run", engine={"processes": 2, "device": "cpu"}, output=QUIET,
    trainer={"epochs": 1}, registry=plait.registry(Points, Trouble),
)
print(run.status, run.info["processes"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "notebook"])
def test_a_script_and_a_notebook_train_in_two_processes(how: str, tmp_path: Path) -> None:
    """A script has no guard around its own code, and may lie anywhere; a notebook's program has no file at all."""
    (tmp_path / "folder").mkdir()
    script = tmp_path / "folder" / "script.py"
    script.write_text(PROGRAM)
    given = {"PYTHONPATH": str(ROOT), **os.environ}
    command, text = ([sys.executable, str(script)], "") if how == "script" else ([sys.executable, "-"], PROGRAM)
    ended = subprocess.run(command, input=text, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert ended.stdout == "finished 2\n", ended.stderr


def test_examples_that_other_processes_cannot_make_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = type("Own", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Own", own, raising=False)  # a class of the program or notebook itself
    with _handing_out(Job({}, (), [own()], resume=False)) as place:
        command = [sys.executable, "-c", "from plait.engine.launch import fetch; fetch()"]
        ended = subprocess.run(command, env={**os.environ, JOB: place}, capture_output=True, text=True, check=False)
    assert "DataError: other processes cannot make the examples that the program gave" in ended.stderr
    assert "'Own'" in ended.stderr
    with pytest.raises(DataError, match="other processes cannot be given these data"):
        fit(tmp_path / "run", data=[lambda: 1])


@pytest.mark.slow
def test_a_killed_rank_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"rank 1 was killed by signal 9 \(SIGKILL"):
        fit(tmp_path / "run", trouble="kill")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("stop", r"rank 1 \(localhost\) was not heard of for 10 s"),
        (  # both are the case after ten seconds, and either may be seen first
            "hang",
            r"(rank 1 \(localhost\) has done nothing for 10 s|a step has waited 10 s for rank 1 \(localhost\)), "
            r"in .*launch_cases\.py:\d+ in forward",
        ),
        ("busy", r"a step has waited 10 s for rank 1 \(localhost\), in .*launch_cases\.py:\d+ in forward"),
        ("read", r"rank 0 \(localhost\) has done nothing for 10 s, in .*launch_cases\.py:\d+ in fit_processor"),
    ],
)
def test_a_rank_that_hangs_is_named_and_ends_the_run(trouble: str, said: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(LostRankError, match=said) as raised:
        fit(tmp_path / "run", trouble=trouble, engine={"timeout": 10})
    assert raised.value.exit_code == 1
    assert time.monotonic() - begun < 90  # start-up and the timeout, on a busy machine
    if trouble != "read":
        run = plait.Run.open(tmp_path / "run")
        assert (run.status, run.info["resume"]) == ("failed", f"plait train --out {run.path} --resume")


@pytest.mark.slow
def test_a_rank_that_hangs_is_started_again(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", trouble="stop", engine={"timeout": 10, "max_restarts": 1}, save_every=1)
    assert run.status == "finished"


@pytest.mark.slow
def test_a_rank_that_works_for_longer_than_the_timeout_is_waited_for(tmp_path: Path) -> None:
    assert fit(tmp_path / "run", trouble="long", engine={"timeout": 10}).status == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_is_full_on_one_rank_only_ends_all_with_its_checkpoint_before(
    background: bool, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"step-\d+: rank 1 could not write its part, [\d,]+ bytes: the file would"):
        fit(tmp_path / "run", trouble="full", save_every=2, save_in_background=background)
    run = plait.Run.open(tmp_path / "run")
    assert run.status == "failed"
    assert [each.name for each in (run.path / "checkpoints").iterdir()] == ["step-00000002"]


@pytest.mark.slow
def test_what_the_user_can_mend_is_raised_here_as_it_was_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3 is not for tokenizers") as raised:
        fit(tmp_path / "run", trouble="data", engine={"max_restarts": 3})  # it would come again: no restart
    assert (raised.value.hint, raised.value.exit_code) == ("mend it", 2)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
def test_a_loss_that_is_nan_on_one_rank_only_stops_all_and_names_it(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 4: the loss is not finite on rank 1;"):
        fit(tmp_path / "run", trouble="nan")
    assert plait.Run.open(tmp_path / "run").status == "failed"


def test_what_cannot_run_is_refused_before_any_process_starts(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"trainer\.batch_size=2 is smaller than engine\.processes=3"):
        fit(tmp_path / "run", processes=3, batch_size=2)
    with pytest.raises(EngineError, match="fp16: not on a CPU"):
        fit(tmp_path / "run", engine={"precision": "fp16"})
    with pytest.raises(RecipeError, match=r"engine\.config\.zero_optimization\.reduce_scater") as raised:
        fit(tmp_path / "run", engine={"config": {"zero_optimization": {"reduce_scater": False}}})
    assert "reduce_scatter" in str(raised.value.hint)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, World()),
        ({"RANK": "0", "WORLD_SIZE": "1"}, World()),
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29"},
            World(rank=3, size=4, local_rank=1, address="a", port=29, launcher="torchrun"),
        ),
        (
            {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "20007",
             "SLURM_STEP_NODELIST": "gpu[03-04,9]"},
            World(rank=2, size=3, address="gpu03", port=15007, launcher="slurm"),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, World()),  # a batch script, outside srun
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
             "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            World(rank=1, size=2, local_rank=1, local_size=2, address="127.0.0.1", port=29500, launcher="openmpi"),
        ),
    ],
)  # fmt: skip
def test_launchers_are_recognised(variables: dict[str, str], expected: World) -> None:
    assert World.find(variables) == expected


def test_variables_that_make_no_sense_are_named() -> None:
    with pytest.raises(EngineError, match="this is process 4 of 4"):
        World.find({"RANK": "4", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    with pytest.raises(EngineError, match="does not say where rank 0 answers"):
        World.find({"RANK": "0", "WORLD_SIZE": "4"})
    with pytest.raises(EngineError, match="RANK is 'one'"):
        World.find({"RANK": "one", "WORLD_SIZE": "4"})
    assert first_host("big1,gpu[1-2]") == "big1"
