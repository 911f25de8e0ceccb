"""Several processes train one recipe; one of them may die, raise, or see what the others do not."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import plait
from plait.engine.agent import _after
from plait.engine.agreement import agree
from plait.engine.ending import losses_named
from plait.engine.launch import JOB, Job, _handing_out
from plait.engine.waiting import waiting
from plait.engine.world import World, first_host
from plait.errors import (
    DataError,
    EngineError,
    FailedRankError,
    LostRankError,
    NonFiniteError,
    RecipeError,
    StorageError,
)
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


@pytest.mark.slow
def test_a_run_to_start_from_gives_the_same_weights_at_every_stage(two: plait.Run, tmp_path: Path) -> None:
    """At stage 3 rank 0 alone reads them."""
    first = {
        stage: fit(tmp_path / str(stage), stage=stage, epochs=1, average=None, model={"from": str(two.path)})
        for stage in (2, 3)
    }
    for name, tensor in weights(first[2]).items():
        torch.testing.assert_close(weights(first[3])[name], tensor, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(history(first[3])[0]["metrics"]["loss"], history(first[2])[0]["metrics"]["loss"])


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
    assert "go on with: plait train --out" in str(raised.value.hint)
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
    with pytest.raises(FailedRankError, match=r"rank 1 was killed by signal 9 \(SIGKILL") as raised:
        fit(tmp_path / "run", trouble="kill")
    assert raised.value.exit_code == 1
    run = plait.Run.open(tmp_path / "run")  # rank 0 knew only that a connection broke
    assert (run.status, run.info["error"].partition(":")[0]) == ("failed", "FailedRankError")


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
            World(rank=2, size=3, address="gpu03", port=21058, launcher="slurm"),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, World()),  # a batch script, outside srun
        (  # a shell in an allocation is a step of one task
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "gpu1"},
            World(),
        ),
        (  # srun starts one torchrun a host
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29",
             "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu[1-2]"},
            World(rank=5, size=8, local_rank=1, address="a", port=29, launcher="torchrun"),
        ),
        (  # so does mpirun with its daemons, which leave srun's variables to their processes
            {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
             "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "29",
             "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu[1-2]"},
            World(rank=5, size=8, local_rank=1, local_size=4, address="a", port=29, launcher="openmpi"),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
             "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            World(rank=1, size=2, local_rank=1, local_size=2, address="127.0.0.1", port=15000, launcher="openmpi"),
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
    assert first_host("rack-1-gpu07") == "rack-1-gpu07"
    assert first_host("rack[2-3]gpu[03-07,9]-ib,big1") == "rack2gpu03-ib"
    assert first_host("") is None


def test_two_jobs_on_one_host_do_not_meet() -> None:
    def port(job: str, step: str) -> int | None:
        return World.find(
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": job, "SLURM_STEP_ID": step,
             "SLURM_STEP_NODELIST": "gpu1"}
        ).port  # fmt: skip

    ports = [port("7", "0"), port("7", "1"), port("8", "0")]
    assert len(set(ports)) == 3
    assert all(each is not None and 15000 <= each < 32768 for each in ports)  # Linux deals out those from 32768 on


def test_a_process_with_one_device_of_its_own_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """srun --gpus-per-task=1 shows each process one device, and calls it 0."""
    monkeypatch.setattr("plait.engine.local.find_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    of = World(rank=3, size=4, local_rank=3, address="a", port=1, launcher="slurm")
    assert of.device("auto") == torch.device("cuda", 0)
    with pytest.raises(EngineError, match="process 3 of this host has no CUDA device: torch finds 1"):
        World(rank=3, size=4, local_rank=3, address="a", port=1, launcher="torchrun").device("auto")


def test_a_wait_that_takes_long_says_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.engine.waiting._QUIET", 0.0)
    said = threading.Event()
    monkeypatch.setattr(logging.getLogger("plait"), "warning", lambda text: said.set())
    with waiting("waiting for the other hosts"):
        assert said.wait(30)
    said.clear()
    monkeypatch.setattr("plait.engine.waiting._QUIET", 3600.0)
    with waiting("not for long"):
        pass
    assert not said.is_set()


def test_a_second_ctrl_c_waits_for_no_checkpoint_and_a_second_sigterm_does() -> None:
    assert _after(signal.SIGINT, signal.SIGINT) == signal.SIGKILL
    assert _after(signal.SIGTERM, signal.SIGTERM) == signal.SIGTERM  # schedulers send it to the group, and to each
    assert _after(signal.SIGINT, signal.SIGTERM) == signal.SIGTERM
    assert _after(signal.SIGKILL, signal.SIGTERM) == signal.SIGKILL


def test_restarts_of_what_plait_did_not_start_are_not_promised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit(tmp_path / "run", processes=1, epochs=1, engine={"max_restarts": 2}).status == "finished"
    assert "engine.max_restarts: only processes that Plait starts itself" in caplog.text


def test_a_collective_that_lost_its_peer_says_so() -> None:
    class Two:
        rank, world_size = 1, 2

        def gather(self, value: object) -> list[object]:
            raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711")

    with pytest.raises(LostRankError, match="another process of the training broke") as raised, losses_named(Two()):
        agree(Two(), None)
    assert raised.value.exit_code == 1
    with pytest.raises(RuntimeError, match="no such layer"), losses_named(Two()):
        raise RuntimeError("no such layer")
