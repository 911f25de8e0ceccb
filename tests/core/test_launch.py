"""Several processes train one recipe; one of them may die, raise, or see what the others do not."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import plait
from plait.engine.world import World, first_host
from plait.errors import DataError, EngineError, NonFiniteError, RecipeError
from tests.core.launch_cases import AWKWARD, fit
from tests.core.test_gradient import assert_equal, history, weights

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


def test_an_exception_of_one_rank_ends_the_run_with_its_traceback_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"rank 1 failed: ValueError: a fault of rank 1 only") as raised:
        fit(tmp_path / "run", trouble="raise")
    assert raised.value.message.count("Traceback") == 1
    assert "go on from the last checkpoint" in str(raised.value.hint)
    assert time.monotonic() - begun < 120  # not the collectives' ten minutes
    assert "a fault of rank 1 only" in (tmp_path / "run" / "logs" / "rank-1.txt").read_text()


@pytest.mark.slow
def test_a_killed_rank_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"rank 1 was killed by signal 9 \(SIGKILL"):
        fit(tmp_path / "run", trouble="kill")


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


PROGRAM = """
import sys
from pathlib import Path
from plait.errors import Interrupted
from tests.core.launch_cases import AWKWARD, fit

try:
    fit(Path(sys.argv[1]), **AWKWARD)
except Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(out)]
    with out.with_suffix(".stderr").open("w") as stderr:
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=stderr)


def until(condition: object, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file exists, or the process ends."""
    assert callable(condition)
    while not condition() and process.poll() is None:
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue


def kill_one(logs: Path, drawn: random.Random, stop: threading.Event, killed: list[int], kills: int) -> None:
    """SIGKILL a random rank at random moments, until there were enough kills."""
    while not stop.wait(drawn.uniform(2.0, 9.0)) and len(killed) < kills:
        found = [re.findall(r"process (\d+) begins", each.read_text())[-1:] for each in logs.glob("rank-*.txt")]
        pids = [int(each[0]) for each in found if each]
        if pids:
            victim = drawn.choice(pids)
            try:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
            except ProcessLookupError:
                continue


def chaos(out: Path, *, kills: int, seed: int) -> plait.Run:
    """Train, or go on, while a random rank is killed again and again; fewer times where the fit is faster."""
    killed: list[int] = []
    stop = threading.Event()
    thread = threading.Thread(target=kill_one, args=(out / "logs", random.Random(seed), stop, killed, kills))
    thread.start()
    try:
        return fit(out, engine={"max_restarts": kills + 1}, resume=True, **AWKWARD)
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> plait.Run:
    """Dropout, sample noise, averages and batch norm in two processes, undisturbed."""
    return fit(tmp_path_factory.mktemp("straight") / "run", **AWKWARD)


@pytest.mark.slow
def test_sigterm_then_three_kills_end_bit_equal(straight: plait.Run, tmp_path: Path) -> None:
    """The signal comes in the middle of an epoch; the kills in start-up, steps, evaluations and saves."""
    out = tmp_path / "run"
    process = start(out)
    until(lambda: (out / "metrics.jsonl").is_file() and (out / "metrics.jsonl").read_text().count("\n") > 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=240) == 143, out.with_suffix(".stderr").read_text()
    assert plait.Run.open(out).status == "interrupted"
    assert_equal(chaos(out, kills=3, seed=1), straight)


@pytest.mark.slow
def test_forty_kills_end_bit_equal(straight: plait.Run, tmp_path: Path) -> None:
    for number in range(8):
        assert_equal(chaos(tmp_path / f"run-{number}", kills=5, seed=number), straight)


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
