"""What does this process's main thread do: wait for other ranks, work, or nothing?

Nobody can tell a long computation from an endless one, but who hangs (in a read that is never answered, on a lock, on a
loader process that died) uses no processor. So a rank is at work while its process and its children use a hundredth of
a processor, or its main thread wakes up once a second (a slow download does), or it waits for other ranks.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

_LEAST_SHARE = 0.01  # of a processor
_LEAST_WAKES = 1.0  # a second; torch's loader asks every 5 s whether its processes live, which is no work
_LEAST_TURN = 0.0005  # seconds of processor that even the smallest step takes between two waits
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_NOISE = ("rich", "tensorboard", "tqdm")  # threads that draw and write, whether the main thread works or not


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a rank's main thread does at a moment.

    Args:
        where: "file.py:12 in read", the innermost line that is neither torch's nor DeepSpeed's.
        waiting: seconds since it began to wait for other ranks, in one collective; 0 where it does not.
        patient: that wait has no limit: the others may read or fit for as long as they work.
        idle: seconds without a sign of work, waits left out.
    """

    where: str = ""
    waiting: float = 0.0
    patient: bool = False
    idle: float = 0.0


class Watch:
    """Looks at the thread that made it, from another one. It knows no rank and no limit.

    Args:
        patient: functions whose callers wait without limit.
        window: seconds over which a sign of work is looked for.
    """

    def __init__(self, *, patient: Collection[CodeType] = (), window: float = 5.0) -> None:
        self._patient, self._window = frozenset(patient), window
        self._thread, self._native = threading.get_ident(), threading.get_native_id()
        self._clock = time.pthread_getcpuclockid(self._thread)
        self._looked = self._alive = self._begun = self._waits_since = time.monotonic()
        self._turn = 0.0
        self._used, self._woken = self._processor(), self._wakes()

    def look(self) -> Vitals:
        """What the thread does now. Costs about 0.1 ms, and once in a window some more."""
        now = time.monotonic()
        place = self._place(sys._current_frames())
        turn = time.clock_gettime(self._clock)
        if not place.waits or turn - self._turn > _LEAST_TURN:
            self._turn, self._waits_since = turn, now
        if place.waits or now - self._looked > 2 * self._window:  # this process itself was stopped, and goes on
            self._alive = now
        self._looked = now
        if now - self._begun >= self._window:
            self._close_window(now)
        return Vitals(place.text, now - self._waits_since, place.patient, now - self._alive)

    def _place(self, frames: Mapping[int, FrameType]) -> _Place:
        own = frames.get(self._thread)
        place = _placed(own, self._patient)
        # where it waits for another thread (that of a checkpoint), it does what that does
        if own is not None and own.f_globals.get("__name__") == "threading":
            others = (_placed(frame, self._patient) for thread, frame in frames.items() if thread != self._thread)
            place = next((other for other in others if other.waits), place)
        return place

    def _close_window(self, now: float) -> None:
        used, woken, seconds = self._processor(), self._wakes(), now - self._begun
        if used - self._used >= _LEAST_SHARE * seconds or woken - self._woken >= _LEAST_WAKES * seconds:
            self._alive = now
        self._begun, self._used, self._woken = now, used, woken

    def _processor(self) -> float:
        """Processor seconds of this process's threads, but for this one and those that draw, and of its children."""
        quiet = {
            each.native_id for each in threading.enumerate() if type(each).__module__.partition(".")[0] in _NOISE
        } | {threading.get_native_id()}
        own = Path("/proc/self/task")
        mine = sum(_seconds(each / "stat")[1] for each in own.iterdir() if int(each.name) not in quiet)
        parent = str(os.getpid())
        found = (_seconds(each / "stat") for each in Path("/proc").iterdir() if each.name.isdecimal())
        return mine + sum(seconds for above, seconds in found if above == parent)

    def _wakes(self) -> int:
        """How often the thread was put to sleep or off the processor."""
        text = _read(Path(f"/proc/self/task/{self._native}/status"))
        return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)


@dataclass(frozen=True, slots=True)
class _Place:
    text: str
    waits: bool
    patient: bool


def _placed(frame: FrameType | None, patient: frozenset[CodeType]) -> _Place:
    """Where a thread stands, by its Python stack."""
    # DeepSpeed waits for what it has begun before in compiled code, right below its own
    waits = frame is not None and _package(frame) == "deepspeed"
    while frame is not None and frame.f_back is not None and _package(frame) in ("torch", "deepspeed"):
        waits = waits or str(frame.f_globals.get("__name__")).startswith(("torch.distributed", "deepspeed.comm"))
        frame = frame.f_back
    if frame is None:
        return _Place("nowhere", waits, patient=False)
    unlimited = frame.f_code in patient
    while frame.f_back is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    return _Place(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}", waits, unlimited)


_OURS = ("plait.engine.group", "plait.engine.agreement", "plait.engine.deepspeed", "contextlib")
"""Modules that say little about where a rank stands: everybody passes through them."""


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _seconds(stat: Path) -> tuple[str, float]:
    """The parent and the processor seconds of a process or thread; ("", 0) where it has gone."""
    fields = _read(stat).rpartition(")")[2].split()  # the name before it may hold anything
    return (fields[1], (int(fields[11]) + int(fields[12])) / _TICK) if len(fields) > 12 else ("", 0.0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a thread or process that has just ended
        return ""
