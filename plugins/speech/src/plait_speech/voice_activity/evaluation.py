"""How well does detected speech agree with the speech that was marked?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait_registry.specs import Metric
from plait_speech.audio import Utterance
from plait_speech.voice_activity.recordings import marked
from plait_speech.voice_activity.segments import Segment, flags_of

F1 = Metric("f1", True)
STEP = 0.010
"""Seconds of a frame that is judged."""

_SCHEMA = pa.schema([("id", pa.string()), *((name, pa.int64()) for name in ("hit", "missed", "false", "quiet"))])


class ActivityEvaluator(Evaluator):
    """Judges segments frame by frame: is each 10 ms of a recording speech or not? It knows no recording's sound.

    Metrics, over the frames of all recordings together: `f1` of speech; `frame_error`, the part of frames that are
    wrong; `miss_rate`, the part of speech that was not found; `false_alarm_rate`, the part of the rest that was taken
    for speech. Where there is no speech (no pause) at all, the rate that would divide by it is 0.
    """

    primary = F1

    def __init__(self) -> None:
        self._table = _SCHEMA.empty_table()

    def update(self, predictions: Sequence[Sequence[Segment]], examples: Sequence[Utterance]) -> None:
        """Take in segments and the recordings that they are of.

        Raises:
            DataError: a recording's speech is not marked.
        """
        rows = []
        for found, example in zip(predictions, examples, strict=True):
            reference = marked(example)
            if reference is None:
                raise DataError(f"{example.id}: has no segments to judge by", hint="evaluate on marked recordings")
            frames = max(1, round(example.seconds / STEP))
            wanted, given = (flags_of(each, step=STEP, window=STEP, frames=frames) for each in (reference, found))
            counts = [wanted & given, wanted & ~given, ~wanted & given, ~wanted & ~given]
            rows.append([example.id, *(int(each.sum()) for each in counts)])
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in _SCHEMA]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
        self._table = pa.concat_tables([self._table, pa.table(arrays, schema=_SCHEMA)])

    def reduce(self, engine: Engine) -> None:
        self._table = gather_table(self._table, engine)

    def compute(self) -> dict[str, float]:
        if not len(self._table):
            return {}
        sums = _sums(self._table, np.ones((1, len(self._table))))
        return {name: float(metric(*sums)[0]) for name, metric in _METRICS.items()}

    def table(self) -> pa.Table:
        """One row a recording: `id`, and its frames that are speech and found (`hit`), `missed`, `false`ly found, and
        `quiet`."""
        return self._table.combine_chunks()

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        return _METRICS[F1.name](*_sums(table, weights))

    def details(self) -> dict[str, Any]:
        """Frames of each kind."""
        return {name: int(np.sum(self._table[name].to_numpy())) for name in _SCHEMA.names[1:]}


def _sums(table: pa.Table, weights: Floats) -> list[Floats]:
    return [weights @ table[name].to_numpy().astype(np.float64) for name in _SCHEMA.names[1:]]


def _part(wrong: Floats, of: Floats) -> Floats:
    part: Floats = wrong / np.where(of > 0, of, 1.0)
    return part


_METRICS: Mapping[str, Callable[[Floats, Floats, Floats, Floats], Floats]] = {
    "f1": lambda hit, missed, false, quiet: _part(2 * hit, 2 * hit + missed + false),
    "frame_error": lambda hit, missed, false, quiet: _part(missed + false, hit + missed + false + quiet),
    "miss_rate": lambda hit, missed, false, quiet: _part(missed, hit + missed),
    "false_alarm_rate": lambda hit, missed, false, quiet: _part(false, false + quiet),
}
