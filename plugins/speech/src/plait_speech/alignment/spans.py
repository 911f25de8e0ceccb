"""What is an alignment, as data give it and as models predict it?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plait_speech.strings import Span

EXPECTED = 'expected a list of {"unit": ..., "start": seconds, "end": seconds} in the order of time'


@dataclass(frozen=True, slots=True)
class Alignment:
    """When the units of a transcript are said.

    Args:
        spans: of the transcript's words, in order.
        log_likelihood: of the best path, nats per frame, where the model has one.
        states: the model's state in each frame, where it has some: silences are None.
        step: seconds from frame to frame.
        fault: why there is no alignment; spans are then empty.
    """

    spans: tuple[Span, ...] = ()
    log_likelihood: float | None = None
    states: tuple[int | None, ...] = ()
    step: float = 0.01
    fault: str = ""


def read_alignment(value: Any) -> tuple[Span, ...] | None:
    """An alignment from a table's cell: a list of mappings or of (unit, start, end), or either as JSON text.

    Returns:
        The spans; None where the cell is empty.

    Raises:
        ValueError: it is none of these, or times are not finite, overlap, or run backwards.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(EXPECTED) from error
    if not isinstance(value, Sequence):
        raise ValueError(EXPECTED)
    spans = tuple(_span(each) for each in value)
    now = 0.0
    for each in spans:
        if each.start < now - 1e-6 or each.end <= each.start:
            raise ValueError(f"{EXPECTED}; {each.unit!r} has {each.start:g} to {each.end:g} s after {now:g} s")
        now = each.end
    return spans


def _span(value: Any) -> Span:
    if isinstance(value, Span):
        return value
    parts = [value.get(name) for name in ("unit", "start", "end")] if isinstance(value, Mapping) else value
    if not isinstance(parts, Sequence) or isinstance(parts, str) or len(parts) != 3:
        raise ValueError(EXPECTED)
    unit, *times = parts
    numbers = [float(each) for each in times if isinstance(each, int | float) and math.isfinite(each)]
    if not isinstance(unit, str) or len(numbers) != 2:
        raise ValueError(EXPECTED)
    return Span(unit, numbers[0], numbers[1])


def as_json(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Spans as JSON values, rounded to tenths of a millisecond."""
    return [{"unit": each.unit, "start": round(each.start, 4), "end": round(each.end, 4)} for each in spans]
