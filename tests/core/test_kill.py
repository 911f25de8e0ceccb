"""SIGKILL at random moments, resuming each time: the end equals an uninterrupted run, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import plait
from tests.core.test_gradient import assert_equal

PROGRAM = """
import sys
from pathlib import Path
from tests.core.test_gradient import train

train(
    Path(sys.argv[1]), resume=True, epochs=16, save_every=3, workers=int(sys.argv[2]), average=0.9,
    model={"dropout": 0.3, "noise": 0.1},
)
"""


def start(out: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(out), str(workers)]
    with out.with_suffix(".stderr").open("w") as stderr:  # a pipe would stay open until orphaned loaders notice
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=stderr)


def finish(process: subprocess.Popen[bytes], out: Path) -> None:
    assert process.wait(timeout=300) == 0, out.with_suffix(".stderr").read_text()


def kill_and_resume(folder: Path, *, kills: int, seed: int) -> None:
    """Kill a training until it has died `kills` times (a run that ended before is compared, and a new one started)."""
    drawn = random.Random(seed)
    begun = time.monotonic()
    finish(start(folder / "straight", 2), folder / "straight")
    lasts = time.monotonic() - begun
    straight = plait.Run.open(folder / "straight")
    killed, number = 0, 0
    while killed < kills:
        out = folder / f"killed-{number}"
        while killed < kills:
            process = start(out, 2)
            try:
                process.wait(timeout=drawn.uniform(0.3, 1.0) * lasts)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
            else:
                finish(process, out)  # it was faster than the kill: exit code 0, or its own words
                break
        finish(start(out, drawn.choice([0, 1, 2, 3])), out)  # the number of loader processes may change
        run = plait.Run.open(out)
        assert run.status == "finished"
        assert_equal(run, straight)
        number += 1


def test_three_kills(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_thirty_kills(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=30, seed=2)


STOPPED = """
import multiprocessing, subprocess, sys
from pathlib import Path
from plait.logs import Listeners
from tests.core.test_gradient import train

def stepped(self, step):
    if step == 7:
        subprocess.run(["sh", "-c", "kill -TERM 0"])  # the group, as `timeout` does it: loader processes are in it
        multiprocessing.active_children()[0].join(1)  # were they to die of it, torch would raise here

Listeners.stepped = stepped
train(Path(sys.argv[1]), workers=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
def test_a_signal_to_the_whole_group_stops_after_the_step(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "run")]
    root = Path(__file__).parents[2]
    process = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, start_new_session=True, timeout=300
    )
    assert "interrupted after step 7; a checkpoint is saved" in process.stderr
    assert plait.Run.open(tmp_path / "run").status == "interrupted"
