"""Whether a run is still written is asked of the system, and what run.json says is true after a SIGKILL too."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import FailedRankError, Interrupted, RunError
from plait.lock import is_written, locked
from plait.run import Run, record_end, status_kept

RUN = {"task": "toy/points", "model": "toy/net"}

WRITER = """
import sys, time
from pathlib import Path
from plait.lock import locked
from plait.run import Run, status_kept

path = Path(sys.argv[1])
with locked(path), status_kept(Run.create(path, {}, {"task": "toy/points", "model": "toy/net"})):
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_run_whose_process_was_killed_has_died(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"running\n"
        assert is_written(path)
        assert Run.open(path).status == "running"
        with pytest.raises(RunError, match="another process is writing this run"), locked(path):
            pass
        assert is_written(path), "asking has not let the writer's lock go"
        writer.send_signal(signal.SIGKILL)
    assert not is_written(path)
    assert Run.open(path).status == "died"
    assert json.loads((path / "run.json").read_text())["status"] == "running"  # reading changes nothing
    with locked(path):  # free for a resume
        pass


def test_who_asks_does_not_lose_its_own_lock(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {}, RUN)
    code = "import sys, pathlib, plait.lock; print(plait.lock.is_written(pathlib.Path(sys.argv[1])))"
    with locked(tmp_path), status_kept(run):
        assert (is_written(tmp_path), Run.open(tmp_path).status) == (True, "running")
        asked = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert asked.stdout == "True\n"


def test_of_a_run_on_another_host_nobody_here_can_tell(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {}, RUN)
    run.update(host="gpu1.invalid")
    assert Run.open(tmp_path).status == "running"
    run.update(host=socket.gethostname())
    assert Run.open(tmp_path).status == "died"


def test_the_launcher_says_how_a_run_ended_whose_ranks_could_not(tmp_path: Path) -> None:
    killed = FailedRankError("rank 1 was killed by signal 9", hint="its log is rank-1.txt")
    record_end(tmp_path / "absent", killed)
    assert not (tmp_path / "absent").exists()
    run = Run.create(tmp_path / "run", {}, RUN)
    with locked(run.path):
        record_end(run.path, killed)
    assert Run.open(run.path).info["status"] == "running", "whoever holds the lock has the word"
    record_end(run.path, Interrupted("interrupted", hint="go on", signal=15))
    assert Run.open(run.path).status == "interrupted"
    record_end(run.path, killed)  # what was said before it knew better
    assert Run.open(run.path).status == "interrupted"
    run.update(status="failed", error="LostRankError: the connection to another process broke")
    record_end(run.path, killed)
    assert Run.open(run.path).info["error"].startswith("FailedRankError: rank 1 was killed by signal 9")
