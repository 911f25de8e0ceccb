"""A random rank is killed again and again; each time the run starts again by itself, and ends with the same bits."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import plait
from tests.core.launch_cases import AWKWARD, fit
from tests.core.test_gradient import assert_equal
from tests.figures import Figure

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")

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


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL.

    Args:
        rank: who was killed.
        when: seconds since 1970.
        during: "start-up", "save", "evaluation" (or the end) or "step", as the run directory looked.
        share: of a processor, that each process on this machine had at that time.
    """

    rank: int
    when: float
    during: str
    share: float


class Killer(threading.Thread):
    """Kills a random rank at a random moment of each attempt, `kills` times in all."""

    def __init__(self, out: Path, *, kills: int, lasts: float, seed: int) -> None:
        super().__init__()
        self._out, self._kills, self._lasts, self._drawn = out, kills, lasts, random.Random(seed)
        self.killed: list[Kill] = []
        self.stop = threading.Event()

    def run(self) -> None:
        attempt = 0
        while len(self.killed) < self._kills:
            while len(pids := self._begun()[attempt:]) == 0:
                if self.stop.wait(0.05):
                    return
            attempt, fits, aim = attempt + len(pids), len(starts(self._out)), self._drawn.random()
            if aim < 0.7:  # start-up takes most of the time; the fit itself is to be disturbed too
                while len(starts(self._out)) == fits and len(self._begun()) == attempt:
                    if self.stop.wait(0.05):
                        return
            if self.stop.wait(self._drawn.uniform(0.0, self._lasts)):
                return
            while aim < 0.2 and not self._saves() and len(self._begun()) == attempt:  # which takes milliseconds
                if self.stop.wait(0.001):
                    return
            rank = self._drawn.randrange(2)
            during, pid = self._during(), self._newest(rank)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            share = min(1.0, len(os.sched_getaffinity(0)) / max(1.0, os.getloadavg()[0]))
            self.killed.append(Kill(rank, time.time(), during, share))

    def _begun(self) -> list[str]:
        log = self._out / "logs" / "rank-0.txt"
        return re.findall(r"process (\d+) begins", log.read_text()) if log.exists() else []

    def _newest(self, rank: int) -> int:
        log = self._out / "logs" / f"rank-{rank}.txt"
        found = re.findall(r"process (\d+) begins", log.read_text()) if log.exists() else []
        return int(found[-1]) if found else 2**22  # no process has this number

    def _saves(self) -> bool:
        return any(self._out.glob("checkpoints/.step-*"))

    def _during(self) -> str:
        if self._saves():
            return "save"
        if len(starts(self._out)) < len(self._begun()):
            return "start-up"
        steps = [json.loads(line)["step"] for line in (self._out / "metrics.jsonl").read_text().splitlines()]
        return "evaluation" if steps and steps[-1] % 5 == 0 else "step"


def starts(out: Path) -> list[float]:
    """When the fit began, or went on, seconds since 1970."""
    log = out / "log.txt"
    found = re.findall(r"^(\S+ \S+) INFO fit starts", log.read_text() if log.exists() else "", re.MULTILINE)
    return [datetime.strptime(each, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() for each in found]


def chaos(out: Path, *, kills: int, lasts: float, seed: int, **options: Any) -> tuple[plait.Run, list[Kill]]:
    """Train, or go on, while a random rank is killed again and again; fewer times where the fit is faster."""
    killer = Killer(out, kills=kills, lasts=lasts, seed=seed)
    killer.start()
    try:
        return fit(out, engine={"max_restarts": kills + 1}, resume=True, **AWKWARD, **options), killer.killed
    finally:
        killer.stop.set()
        killer.join()


def recoveries(killed: list[Kill], begun: list[float]) -> list[tuple[float, float]]:
    """Seconds from a kill until the fit went on, as they were and as they would be with a processor for each process;
    where it was killed again before it did so, of both kills, and where only the report was missing, of none."""
    found = [(kill, [each for each in begun if each > kill.when]) for kill in killed]
    return [(after[0] - kill.when, (after[0] - kill.when) * kill.share) for kill, after in found if after]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[plait.Run, float]:
    """Dropout, sample noise, averages and batch norm in two processes, undisturbed; and how long the fit took."""
    run = fit(tmp_path_factory.mktemp("straight") / "run", **AWKWARD)
    return run, time.time() - starts(run.path)[0]


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is there, or the process ends."""
    while not condition() and process.poll() is None:
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue


def test_sigterm_then_three_kills_end_bit_equal(straight: tuple[plait.Run, float], tmp_path: Path) -> None:
    """The signal comes in the middle of an epoch; the kills in start-up, steps, evaluations and saves."""
    out, (undisturbed, lasts) = tmp_path / "run", straight
    with out.with_suffix(".stderr").open("w") as stderr:
        command = [sys.executable, "-c", PROGRAM, str(out)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=stderr)
    metrics = out / "metrics.jsonl"
    until(lambda: metrics.is_file() and metrics.read_text().count("\n") > 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=240) == 143, out.with_suffix(".stderr").read_text()
    assert plait.Run.open(out).status == "interrupted"
    killed: list[Kill] = []
    number = 0
    while len(killed) < 3:  # a fit may end before its kills have all come; the next one starts anew
        run, these = chaos(out, kills=3 - len(killed), lasts=lasts, seed=number)
        assert_equal(run, undisturbed)
        killed += these
        out, number = tmp_path / f"run-{number}", number + 1


@pytest.mark.slow
@pytest.mark.figures(minutes=20)
def test_forty_kills_end_bit_equal(straight: tuple[plait.Run, float], tmp_path: Path, figure: Figure) -> None:
    undisturbed, lasts = straight
    killed: list[Kill] = []
    times: list[tuple[float, float]] = []
    number = 0
    while len(killed) < 40:
        out, number = tmp_path / f"run-{number}", number + 1
        background = number % 2 == 0  # how checkpoints are written is not to be seen in what is fitted
        run, these = chaos(out, kills=min(5, 40 - len(killed)), lasts=lasts, seed=number, save_in_background=background)
        assert_equal(run, undisturbed)
        killed += these
        times += recoveries(these, starts(out))
        told = {"kills": len(killed), "runs": number, "seconds": times, "killed": [asdict(each) for each in killed]}
        (tmp_path / "told.json").write_text(json.dumps(told))
    phases = [each.during for each in killed]
    counts = {each: phases.count(each) for each in sorted(set(phases))}
    waited, idle = zip(*times, strict=True)
    figure("SIGKILLs of a random rank, ZeRO 2, two processes", f"{len(killed)} of 40 recovered, bit-equal; {counts}")
    for what, seconds in {"as they were": waited, "with a processor for each process": idle}.items():
        text = f"median {statistics.median(seconds):.1f}, largest {max(seconds):.1f}"
        figure(f"seconds from a kill until the fit went on, {what}", text)
    assert len(killed) == 40
    assert max(idle) < 20
