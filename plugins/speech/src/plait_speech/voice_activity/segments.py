"""How do decisions about frames become segments in time, and how do segments compare?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
_PAIR = 2


class Segment(NamedTuple):
    """A stretch of a recording, seconds; `end` is behind its last moment."""

    start: float
    end: float


def segments_of(active: Flags, *, step: float, window: float, seconds: float) -> list[Segment]:
    """The runs of frames that are speech. A frame stands for `step` seconds around its centre; the first and the last
    one also for what is before and behind them.

    Args:
        active: [frames].
        step, window: of the frames, seconds.
        seconds: how long the recording lasts.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    lead = (window - step) / 2  # from a frame's first sample to what it stands for
    found = []
    for first, behind in edges.reshape(-1, _PAIR).tolist():
        start = 0.0 if first == 0 else first * step + lead
        end = seconds if behind == len(active) else behind * step + lead
        found.append(Segment(round(start, 4), round(min(end, seconds), 4)))
    return found


def flags_of(segments: Iterable[Segment], *, step: float, window: float, frames: int) -> Flags:
    """Which frames have their centre in a segment, [frames]: the reverse of `segments_of`."""
    centres = np.arange(frames) * step + window / 2
    active = np.zeros(frames, bool)
    for start, end in segments:
        active |= (centres >= start) & (centres < end)
    return active


def joined(segments: Iterable[Segment], *, gap: float = 0.0) -> list[Segment]:
    """The segments in order; those that overlap, touch, or are at most `gap` seconds apart are one."""
    found: list[Segment] = []
    for segment in sorted(segments):
        if found and segment.start - found[-1].end <= gap:
            found[-1] = Segment(found[-1].start, max(found[-1].end, segment.end))
        else:
            found.append(segment)
    return found


def smoothed(
    segments: Iterable[Segment], *, gap: float, shortest: float, margin: float, seconds: float
) -> list[Segment]:
    """Segments without short pauses and without clicks, widened at both ends.

    Args:
        gap: a pause at most this long is speech, seconds (a plosive's closure lasts up to 0.15 s).
        shortest: a segment that is shorter is none.
        margin: seconds added before and behind (the hangover: quiet consonants begin and end words).
        seconds: how long the recording lasts.
    """
    whole = [each for each in joined(segments, gap=gap) if each.end - each.start >= shortest]
    wide = [Segment(max(0.0, each.start - margin), min(seconds, each.end + margin)) for each in whole]
    return [Segment(round(each.start, 4), round(each.end, 4)) for each in joined(wide)]


def read_segments(value: Any) -> tuple[Segment, ...]:
    """Segments from JSON values: [{"start": 0.2, "end": 1.1}, ...] or [[0.2, 1.1], ...], seconds, in any order.

    Raises:
        ValueError: says what is wrong with which.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f'expected a list of {{"start": seconds, "end": seconds}}, not {value!r:.60}')
    found = []
    for number, each in enumerate(value):
        pair = (each.get("start"), each.get("end")) if isinstance(each, Mapping) else each
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != _PAIR or not all(map(_number, pair)):
            raise ValueError(f'segment {number} is {each!r:.60}; expected {{"start": seconds, "end": seconds}}')
        start, end = map(float, pair)
        if not 0 <= start < end:
            raise ValueError(f"segment {number} is from {start:g} to {end:g} s; expected 0 <= start < end")
        found.append(Segment(start, end))
    return tuple(joined(found))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
