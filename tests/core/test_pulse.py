"""Who stops answering, does nothing, or keeps the others waiting, is named; who works is left alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from plait.engine.pulse import Lines, Meeting, Pulse
from plait.engine.roster import Roster
from plait.engine.vitals import Vitals, Watch
from plait.errors import EngineError, LostRankError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DeepSpeed is for Linux")
ROOT = Path(__file__).parents[2]
WAITS = Vitals("train.py:3 in step", waiting=12.0)


def roster(size: int = 3) -> Roster:
    return Roster(["a", "b", "c"][:size], range(size), timeout=10.0, now=0.0)


def test_a_silent_rank_is_lost_once_the_time_is_over() -> None:
    found = roster()
    for second in range(1, 10):
        for rank in (0, 2):
            found.heard(rank, Vitals(), float(second))
        assert found.fault(float(second)) is None
    assert found.fault(10.0) == "rank 1 (b) was not heard of for 10 s"
    found.ended(1)
    assert found.fault(10.0) == "rank 1 (b) ended without a word for 10 s"


def test_a_rank_that_took_its_leave_may_be_silent() -> None:
    found = roster(2)
    found.left(1)
    found.heard(0, Vitals(), 100.0)
    assert found.fault(100.0) is None


def test_a_process_that_was_stopped_itself_blames_nobody() -> None:
    found = roster(2)
    found.forgive(60.0)  # seconds that it could not listen
    assert found.fault(65.0) is None
    assert found.fault(70.0) is not None


def test_work_outside_a_step_is_no_fault_and_is_told_once_in_a_timeout() -> None:
    found = roster()
    reads = Vitals("tokens.py:7 in fit")
    said = []
    for second in range(1, 41):
        waits = Vitals("group.py:1 in gather", waiting=float(second), patient=True)
        for rank, vitals in enumerate((reads, waits, waits)):
            found.heard(rank, vitals, float(second))
        assert found.fault(float(second)) is None
        said += [text] if (text := found.delay(float(second))) else []
    assert said == [
        f"the others have waited {second} s for rank 0 (a), in tokens.py:7 in fit" for second in (10, 20, 30, 40)
    ]


@pytest.mark.parametrize(
    ("vitals", "expected"),
    [
        ([WAITS, Vitals("read.py:7 in open", idle=10.0)], "rank 1 (b) has done nothing for 10 s, in read.py:7 in open"),
        ([WAITS, Vitals("fit.py:9 in forward")], "a step has waited 10 s for rank 1 (b), in fit.py:9 in forward"),
        ([Vitals("train.py:3 in step", waiting=12.0, patient=True), Vitals("read.py:7 in parse")], None),  # it works
        ([Vitals("a.py:1 in f", waiting=9.0), Vitals()], None),
        ([WAITS, Vitals("x.py:1 in g", waiting=0.1)], None),  # it has just come
        (
            [WAITS, Vitals("end.py:5 in end", waiting=11.0, patient=True)],
            "all ranks have waited for each other for 10 s: "
            "rank 0 (a) in train.py:3 in step; rank 1 (b) in end.py:5 in end",
        ),
    ],
)  # fmt: skip
def test_what_ranks_do_says_who_is_at_fault(vitals: list[Vitals], expected: str | None) -> None:
    found = roster(2)
    for rank, each in enumerate(vitals):
        found.heard(rank, each, 1.0)
    assert found.fault(2.0) == expected


class Ranks:
    """Pulses of one process that stand for those of several."""

    def __init__(self, size: int, timeout: float) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.does = [Vitals("work.py:1 in work")] * size
        self.errors: list[EngineError | None] = [None] * size
        self.told = [threading.Event() for _ in range(size)]
        meeting = Meeting(hosts=[f"host{rank}" for rank in range(size)], port=self.port, word="word")
        self.pulses = []
        for rank in range(size):
            pulse = Pulse(rank, meeting, timeout=timeout, look=self.looker(rank), lost=self.hearer(rank))
            pulse.answer(listener) if rank == 0 else pulse.call("127.0.0.1")
            self.pulses.append(pulse)

    def looker(self, rank: int) -> Callable[[], Vitals]:
        return lambda: self.does[rank]

    def hearer(self, rank: int) -> Callable[[EngineError], None]:
        def lost(error: EngineError) -> None:
            self.errors[rank] = error
            self.told[rank].set()

        return lost

    def close(self) -> None:
        for pulse in self.pulses:
            pulse.close()


@pytest.fixture
def three() -> Iterator[Ranks]:
    ranks = Ranks(3, timeout=1.0)
    yield ranks
    ranks.close()


def test_all_ranks_hear_who_hangs(three: Ranks) -> None:
    three.does[2] = Vitals("read.py:7 in open", idle=1.0)
    for told, error in zip(three.told, three.errors, strict=True):
        assert told.wait(20)
        assert error is None or isinstance(error, LostRankError)
    assert {each.message for each in three.errors if each} == {
        "rank 2 (host2) has done nothing for 1 s, in read.py:7 in open"
    }
    assert three.errors[0] is not None
    assert three.errors[0].exit_code == 1


def test_leaving_one_after_the_other_alarms_nobody(three: Ranks) -> None:
    for pulse in three.pulses:
        pulse.close()
        assert not three.told[2].wait(1.3)  # longer than the timeout
    assert three.errors == [None] * 3


def test_a_stranger_is_hung_up_on(three: Ranks) -> None:
    for said in (b'{"rank": 1, "word": "wrong"}\n', b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"x" * 70_000):
        with socket.create_connection(("127.0.0.1", three.port)) as stranger:
            stranger.sendall(said)
            stranger.settimeout(20)
            try:
                assert stranger.recv(1) == b""
            except ConnectionResetError:
                continue  # hung up with bytes unread
    assert three.errors == [None] * 3


def test_a_rank_0_that_nobody_answers_for_is_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = Meeting(hosts=("a", "b"), port=free.getsockname()[1], word="word")
        with pytest.raises(EngineError, match=r"rank 1 could not reach rank 0 on 127\.0\.0\.1:\d+"):
            Pulse(1, meeting, timeout=1.0, look=Vitals, lost=print).call("127.0.0.1")


def test_a_wire_that_takes_nothing_more_is_not_waited_for() -> None:
    one, other = socket.socketpair()
    with one, other:
        lines = Lines(one)
        for _ in range(3000):
            lines.send({"vitals": "x" * 1000})  # 3 MB, and nobody reads
        assert lines.open
        reader = Lines(other)
        assert reader.receive()[0] == {"vitals": "x" * 1000}  # whole lines, however they were cut


PROGRAM = """
import sys, threading, time
from plait.engine.vitals import Watch

def looked(seconds):
    found = []
    def look():
        watch.look()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            found.append(watch.look())
    thread = threading.Thread(target=look)
    return thread, found

watch = Watch(window=0.4)
thread, found = looked(2.0)
thread.start()
end = time.monotonic() + 2.0
{doing}
thread.join()
print(max(each.idle for each in found), found[-2].where)
"""


@pytest.mark.parametrize(
    ("doing", "idle"),
    [
        ("time.sleep(2.0)", True),
        ("lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=2.0)", True),
        ("[sum(range(1000)) for _ in iter(lambda: time.monotonic() < end, False)]", False),
        ("[time.sleep(0.02) for _ in range(100)]", False),  # a slow download
        ("work = 'import time; end = time.monotonic() + 2.5; all(time.monotonic() < end for _ in iter(int, 1))'; "
         "import subprocess; subprocess.run([sys.executable, '-c', work])",
         False),  # its child works
    ],
)  # fmt: skip
def test_who_does_nothing_is_told_from_who_works(doing: str, idle: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(doing=doing)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, where = done.stdout.split(maxsplit=1)
    assert (float(seconds) > 1.0) is idle, done.stdout
    assert "<string>" in where or "subprocess" in where or "selectors" in where


def moved(function: Callable[..., None], module: str) -> Any:
    """The function as if it stood in another module."""
    return FunctionType(function.__code__, {"__name__": module})  # type: ignore[attr-defined]  # any function has code


def test_a_wait_for_other_ranks_is_told_from_doing_nothing() -> None:
    """Whether the main thread waits itself, or for the thread that writes a checkpoint and waits for them."""
    collective = moved(lambda lock: lock.acquire(), "torch.distributed.c10d")
    ours = moved(lambda reduce, lock: reduce(lock), "plait.engine.group")

    def waits(*, patient: bool, thread: bool) -> Vitals:
        lock, made = threading.Lock(), threading.Event()
        lock.acquire()
        found: list[Watch] = []

        def wait() -> None:
            ours(collective, lock) if patient else collective(lock)

        def main() -> None:
            found.append(Watch(patient=(ours.__code__,), window=0.05))
            made.set()
            if thread:
                writer = threading.Thread(target=wait)
                writer.start()
                writer.join()
            else:
                wait()

        running = threading.Thread(target=main)
        running.start()
        made.wait()
        for _ in range(20):
            vitals = found[0].look()
            running.join(0.02)
        lock.release()
        running.join()
        return vitals

    for thread in (False, True):
        for patient in (False, True):
            vitals = waits(patient=patient, thread=thread)
            assert (vitals.patient, vitals.idle) == (patient, 0.0)
            assert vitals.waiting > 0.2
            assert vitals.where.endswith("in wait")


STOPPED = textwrap.dedent(
    """
    import sys, time
    from plait.engine.ending import give_up
    from plait.engine.pulse import Meeting, Pulse
    from plait.engine.vitals import Watch

    pulse = Pulse(1, Meeting(hosts=("a", "b"), port=int(sys.argv[1]), word="word"), timeout=2.0,
                  look=Watch(window=0.2).look, lost=give_up)
    pulse.call("127.0.0.1")
    print("called", flush=True)
    while True:
        time.sleep(0.01)
    """
)


def test_a_stopped_process_is_lost_and_ends_when_it_goes_on() -> None:
    errors: list[EngineError] = []
    told = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    meeting = Meeting(hosts=("a", "b"), port=port, word="word")
    pulse = Pulse(0, meeting, timeout=2.0, look=Vitals, lost=lambda error: (errors.append(error), told.set())[0])
    pulse.answer(listener)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "called\n"
        os.kill(process.pid, signal.SIGSTOP)
        assert told.wait(30)
        assert [each.message for each in errors] == ["rank 1 (b) was not heard of for 2 s"]
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 1  # rank 0 told it
        assert "error: rank 1 (b) was not heard of for 2 s" in said
