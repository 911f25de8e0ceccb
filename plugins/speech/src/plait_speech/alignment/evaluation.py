"""How wrong are alignments: how far off are the boundaries of words, and in which utterances?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.bootstrap import Floats
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_registry.specs import Metric
from plait_speech.alignment.spans import Alignment
from plait_speech.audio import Utterance

if TYPE_CHECKING:
    from plait.engine.base import Engine

BOUNDARY_ERROR = Metric("boundary_error", False)

_SCHEMA = pa.schema(
    [("id", pa.string()), ("units", pa.int64()), ("boundaries", pa.int64()), ("aligned", pa.int64())]
    + [(name, pa.float64()) for name in ("error_ms", "within_20ms", "within_50ms", "log_likelihood")]
)
_WORST = 10  # utterances that a report lists


class AlignmentEvaluator(Evaluator):
    """Judges when words are said. Examples are `Utterance`s with `text`, predictions `Alignment`s. It keeps sums for
    each utterance, and knows no model.

    Metrics, where examples have reference times (`more["alignment"]`): `boundary_error`, the mean distance of all
    words' starts and ends from the reference, milliseconds; `within_20ms` and `within_50ms`, the parts of them that are
    at most that far off; NaN where no example has such times. An utterance that could not be aligned counts as one
    whose words are all as far off as the utterance is long. `aligned`, the part of the utterances that were;
    `log_likelihood` of the best paths, nats per frame, averaged over utterances, where the model has one.
    """

    primary = BOUNDARY_ERROR

    def __init__(self) -> None:
        self._rows: list[pa.Table] = [_SCHEMA.empty_table()]
        self._shown: tuple[Utterance, Alignment] | None = None  # what the report pictures

    def update(self, predictions: Sequence[Alignment], examples: Sequence[Utterance]) -> None:
        """Take in predictions and the examples that they are for.

        Raises:
            DataError: the reference has another number of words than the transcript.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        rows = [_row(found, example) for found, example in zip(predictions, examples, strict=True)]
        self._rows.append(pa.Table.from_pylist(rows, _SCHEMA))
        for found, example in zip(predictions, examples, strict=True):
            if self._shown is None and found.spans:
                self._shown = (example, found)

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        once = np.ones((1, len(table)))
        found = {name: float(measure(table, once)[0]) for name, measure in _METRICS.items()}
        scores = _numbers(table, "log_likelihood")
        if np.isfinite(scores).any():
            found["log_likelihood"] = float(np.nanmean(scores))
        return found

    def table(self) -> pa.Table:
        """One row an utterance: `id`, `units`, `boundaries` (that have a reference), `aligned`, `error_ms` and
        `within_*` (sums over boundaries), `log_likelihood` (nats per frame, null where there is none)."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        """The boundary error: weighted milliseconds by weighted boundaries, exactly."""
        return _METRICS[self.primary.name](table, weights)

    def sections(self) -> list[Section]:
        table, found = self.table(), []
        if not len(table):
            return []
        boundaries, errors = _numbers(table, "boundaries"), _numbers(table, "error_ms")
        if boundaries.any():
            means = errors / np.maximum(boundaries, 1)
            order = np.argsort(-means, kind="stable")[:_WORST].tolist()
            rows = tuple((table["id"][at].as_py(), table["units"][at].as_py(), round(means[at], 1)) for at in order)
            columns = ("utterance", "words", "mean boundary error, ms")
            found.append(Section("Worst utterances", "", Table(columns, rows)))
        if self._shown is not None:
            from plait_speech.alignment.picture import alignment_picture

            example, alignment = self._shown
            text = f"{example.id}: waveform, log mel spectrogram and the model's states over time; shades are words."
            if example.more.get("alignment"):
                text += " Dashed lines are the reference."
            found.append(Section("An alignment", text, figure=alignment_picture(example, alignment)))
        return found


def _row(found: Alignment, example: Utterance) -> dict[str, Any]:
    reference, units = example.more.get("alignment"), len((example.text or "").split())
    row = {"id": example.id, "units": units, "boundaries": 0, "aligned": int(not found.fault)}
    row |= {"error_ms": 0.0, "within_20ms": 0.0, "within_50ms": 0.0, "log_likelihood": found.log_likelihood}
    if not reference:
        return row
    if len(reference) != units:
        raise DataError(
            f"{example.id}: its alignment has {len(reference)} units, and its transcript {units} words",
            hint="a unit for each word between spaces; silences are none",
        )
    if len(found.spans) == units:
        pairs = zip(found.spans, reference, strict=True)
        off = [
            abs(mine - theirs) for one, two in pairs for mine, theirs in ((one.start, two.start), (one.end, two.end))
        ]
        errors = 1000 * np.array(off)
    else:
        errors = np.full(2 * units, 1000 * example.seconds)
    row |= {"boundaries": 2 * units, "error_ms": float(errors.sum())}
    return row | {"within_20ms": float((errors <= 20).sum()), "within_50ms": float((errors <= 50).sum())}


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.asarray(table[name].to_numpy(), np.float64)
    return found


def _share(name: str, of: str) -> Callable[[pa.Table, Floats], Floats]:
    def measure(table: pa.Table, weights: Floats) -> Floats:
        total = weights @ _numbers(table, of)
        found: Floats = np.where(total > 0, (weights @ _numbers(table, name)) / np.where(total > 0, total, 1), np.nan)
        return found

    return measure


def _aligned(table: pa.Table, weights: Floats) -> Floats:
    found: Floats = (weights @ _numbers(table, "aligned")) / weights.sum(axis=1)
    return found


_METRICS: Mapping[str, Callable[[pa.Table, Floats], Floats]] = {
    "boundary_error": _share("error_ms", "boundaries"),
    "within_20ms": _share("within_20ms", "boundaries"),
    "within_50ms": _share("within_50ms", "boundaries"),
    "aligned": _aligned,
}
