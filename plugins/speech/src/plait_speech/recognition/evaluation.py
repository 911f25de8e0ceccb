"""How wrong are transcripts: how many words and characters, of which kinds, in which utterances?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plait.bootstrap import Floats
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_registry.specs import Metric
from plait_speech.audio import Utterance
from plait_speech.recognition.transcripts import Transcript

if TYPE_CHECKING:
    from plait.engine.base import Engine

WER = Metric("wer", False)

_COUNTS = ("words", "errors", "substitutions", "deletions", "insertions", "characters", "character_errors")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "target", "prediction")]
    + [(name, pa.int64()) for name in _COUNTS]
    + [("seconds", pa.float64())]
)
_SHOWN = 20  # rows of a report's tables
_GAP = "***"  # stands where one side of an alignment has no word, as NIST's sclite prints it


class TranscriptEvaluator(Evaluator):
    """Judges one text an utterance. Examples are `Utterance`s with `text`, predictions `Transcript`s, both in the
    problem's spelling. It keeps edit counts for each utterance and knows no model.

    Metrics, from the fewest edits that make the prediction the target (Levenshtein, by jiwer): `wer`, word errors by
    words of the targets, over all utterances together; `cer`, the same of characters; `sentence_error_rate`, the part
    of the utterances with any error; `substitutions`, `deletions` and `insertions` of words, by words of the targets:
    they sum to `wer`. An empty target has no words, and every word predicted for it is an insertion; where no
    target has a word, the errors are divided by one.
    """

    primary = WER

    def __init__(self) -> None:
        self._rows: list[pa.Table] = [_SCHEMA.empty_table()]

    def update(self, predictions: Sequence[Transcript], examples: Sequence[Utterance]) -> None:
        """Take in predictions and the examples that they are for.

        Raises:
            DataError: an example has no transcript.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        if not examples:
            return
        for example in examples:
            if example.text is None:
                raise DataError(
                    f"{example.id}: has no transcript to judge a prediction by", hint="evaluate on transcribed data"
                )
        import jiwer

        targets, found = [each.text or "" for each in examples], [each.text for each in predictions]
        words, characters = jiwer.process_words(targets, found), jiwer.process_characters(targets, found)
        columns: dict[str, Any] = {"id": [each.id for each in examples], "target": targets, "prediction": found}
        columns["words"] = [len(each) for each in words.references]
        for name, kind in (("substitutions", "substitute"), ("deletions", "delete"), ("insertions", "insert")):
            columns[name] = [_edits(each, kind) for each in words.alignments]
        kinds = (columns[name] for name in ("substitutions", "deletions", "insertions"))
        columns["errors"] = [sum(each) for each in zip(*kinds, strict=True)]
        columns["characters"] = [len(each) for each in targets]
        columns["character_errors"] = [_edits(each) for each in characters.alignments]
        columns["seconds"] = [each.seconds for each in examples]
        self._rows.append(pa.table(columns, _SCHEMA))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        once = np.ones((1, len(table)))
        return {name: float(measure(table, once)[0]) for name, measure in _METRICS.items()}

    def table(self) -> pa.Table:
        """One row an utterance: `id`, `target`, `prediction`, `words` (of the target), `errors` and its kinds,
        `characters`, `character_errors`, `seconds` (of audio)."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        """The word error rate: weighted errors by weighted words, exactly."""
        return _METRICS[self.primary.name](table, weights)

    def speed(self, seconds: float) -> dict[str, float]:
        """The `real_time_factor`: seconds of computing for a second of audio.

        Args:
            seconds: what reading, computing and judging took.
        """
        audio = float(np.sum(_numbers(self.table(), "seconds")))
        return {"real_time_factor": seconds / audio} if audio else {}

    def details(self) -> dict[str, Any]:
        """Sums of the edit counts, and `confused`, the twenty most frequent word errors: [target, predicted, count],
        where null stands for no word."""
        sums = {name: int(_numbers(self.table(), name).sum()) for name in _COUNTS}
        confused = [[one, other, count] for (one, other), count in _confusions(self.table())[:_SHOWN]]
        return {**sums, "utterances": len(self.table()), "confused": confused}

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        found = [Section("Transcripts", _summary(self.details()))]
        errors, words = _numbers(table, "errors"), _numbers(table, "words")
        order = np.lexsort((words, -errors))
        worst = [index for index in order[:_SHOWN].tolist() if errors[index]]
        if worst:
            columns = ("utterance", "errors", "words", "target", "predicted")
            rows = tuple(_worst_row(table, index) for index in worst)
            text = f"The two texts word by word: {_GAP} stands for no word, [brackets] for an error."
            found.append(Section("Worst utterances", text, Table(columns, rows)))
        confused = _confusions(table)[:_SHOWN]
        if confused:
            rows = tuple((one or _GAP, other or _GAP, count) for (one, other), count in confused)
            found.append(Section("Most frequent confusions", "", Table(("target", "predicted", "times"), rows)))
        return found


def aligned(target: str, prediction: str) -> list[tuple[str | None, str | None]]:
    """The words of two texts side by side, with the fewest edits; None where one side has no word."""
    import jiwer

    found = jiwer.process_words(target, prediction)
    references, hypotheses = found.references[0], found.hypotheses[0]
    pairs: list[tuple[str | None, str | None]] = []
    for chunk in found.alignments[0]:
        left = references[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hypotheses[chunk.hyp_start_idx : chunk.hyp_end_idx]
        length = max(len(left), len(right))
        pairs += zip([*left, *[None] * (length - len(left))], [*right, *[None] * (length - len(right))], strict=True)
    return pairs


def _edits(alignment: Sequence[Any], kind: str | None = None) -> int:
    """How many edits of a kind (None: of any) an alignment has."""
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in alignment
        if (chunk.type == kind if kind else chunk.type != "equal")
    )


def _summary(sums: Mapping[str, Any]) -> str:
    return (
        f"{sums['utterances']:,} utterances of {sums['words']:,} words: {sums['substitutions']:,} substituted, "
        f"{sums['deletions']:,} left out, {sums['insertions']:,} inserted. Intervals resample utterances."
    )


def _worst_row(table: pa.Table, index: int) -> tuple[Any, ...]:
    row = {name: table[name][index].as_py() for name in ("id", "errors", "words", "target", "prediction")}
    pairs = aligned(row["target"], row["prediction"])
    left, right = [], []
    for one, other in pairs:
        equal = one == other
        left.append(one or _GAP if equal else f"[{one or _GAP}]")
        right.append(other or _GAP if equal else f"[{other or _GAP}]")
    return row["id"], row["errors"], row["words"], " ".join(map(str, left)), " ".join(map(str, right))


def _confusions(table: pa.Table) -> list[tuple[tuple[str | None, str | None], int]]:
    """Pairs of unlike words by how often they occur, most frequent first."""
    wrong = table.filter(pc.greater(table["errors"], 0))
    texts = zip(wrong["target"].to_pylist(), wrong["prediction"].to_pylist(), strict=True)
    counts = Counter(pair for one, other in texts for pair in aligned(one, other) if pair[0] != pair[1])
    return sorted(counts.items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = table[name].to_numpy().astype(np.float64)
    return found


def _rate(errors: str, of: str) -> Callable[[pa.Table, Floats], Floats]:
    """Weighted sums of one column by those of another, at least one."""

    def measure(table: pa.Table, weights: Floats) -> Floats:
        rates: Floats = (weights @ _numbers(table, errors)) / np.maximum(weights @ _numbers(table, of), 1.0)
        return rates

    return measure


def _sentence_errors(table: pa.Table, weights: Floats) -> Floats:
    rates: Floats = (weights @ (_numbers(table, "errors") > 0)) / weights.sum(axis=1)
    return rates


_METRICS: Mapping[str, Callable[[pa.Table, Floats], Floats]] = {
    "wer": _rate("errors", "words"),
    "cer": _rate("character_errors", "characters"),
    "sentence_error_rate": _sentence_errors,
    "substitutions": _rate("substitutions", "words"),
    "deletions": _rate("deletions", "words"),
    "insertions": _rate("insertions", "words"),
}
