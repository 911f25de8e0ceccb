"""How well do embeddings tell whether two recordings are by one speaker?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.evaluation import ClassificationEvaluator, ClassPrediction, Evaluator, gather_table
from plait_registry.specs import Metric

if TYPE_CHECKING:
    from plait.report import Section
    from plait_speech.audio import Utterance

EER = Metric("eer", False)
TARGET_PROBABILITY = 0.01
"""How often two recordings are by one speaker, for `min_dcf`: as in NIST's evaluation plans of 2010 and later."""
MOST = 800
"""Recordings whose pairs are the trials (319,600 of them); of more, as many evenly spaced ones. The bootstrap weighs
every trial a thousand times: 5 CPU-seconds."""

_SMALLEST = 1e-30  # a probability below it says no more


@dataclass(frozen=True, slots=True)
class Trials:
    """Pairs of recordings with their scores, the highest first, so that every threshold is a place in a row.

    Args:
        first, second: [trials], which recordings.
        same: [trials], whether they are by one speaker.
        scores: [trials], cosines of the embeddings.
        last: [thresholds], the last trial of each group of equal scores: nothing may come between equals.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]
    scores: Floats
    last: npt.NDArray[np.int64]

    @classmethod
    def of(cls, embeddings: Floats, speakers: Sequence[str]) -> Trials:
        """All pairs of recordings.

        Args:
            embeddings: [recordings, width].
            speakers: [recordings].
        """
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        units = embeddings / np.where(norms > 0, norms, 1.0)
        # rounded, so that equal recordings tie on every machine
        cosines = np.round(np.clip(units @ units.T, -1, 1), 9).astype(np.float64)
        first, second = np.triu_indices(len(units), k=1)
        codes = np.unique(np.asarray(speakers, object).astype(str), return_inverse=True)[1]
        scores = cosines[first, second]
        order = np.argsort(-scores, kind="stable")
        first, second, scores = first[order], second[order], scores[order]
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
        return cls(first, second, codes[first] == codes[second], scores, last)

    def errors(self, weights: Floats) -> tuple[Floats, Floats]:
        """The false acceptances and false rejections at each threshold, [1 + thresholds], from "accept nobody" to
        "accept all"; NaN where no two are by one speaker, or no two by different ones.

        Args:
            weights: [recordings]; a trial weighs as the product of its recordings.
        """
        own = weights[self.first] * weights[self.second]
        hits, alarms = (np.cumsum(own * part)[self.last] for part in (self.same, ~self.same))
        if not len(hits) or hits[-1] <= 0 or alarms[-1] <= 0:
            return np.array([np.nan]), np.array([np.nan])
        return np.append(0.0, alarms / alarms[-1]), np.append(1.0, 1 - hits / hits[-1])


def equal_error_rate(accepted: Floats, rejected: Floats) -> float:
    """Where as many impostors are accepted as speakers are rejected: the straight line between the two thresholds
    around that point is cut, so that ties count as if they were broken by chance.

    Args:
        accepted, rejected: as `Trials.errors` gives them.
    """
    if np.isnan(accepted[0]):
        return float("nan")
    after = int(np.argmax(accepted >= rejected))  # "accept all" has 1 >= 0; "accept nobody" never has 0 >= 1
    before = after - 1
    below, above = rejected[before] - accepted[before], accepted[after] - rejected[after]
    return float(accepted[before] + below / (below + above) * (accepted[after] - accepted[before]))


def minimum_detection_cost(accepted: Floats, rejected: Floats, *, target: float = TARGET_PROBABILITY) -> float:
    """The cost at the best threshold, errors costing 1 each, as a part of what always saying the same would cost
    (NIST 2016 speaker recognition evaluation plan, equations 2 and 3).

    Args:
        accepted, rejected: as `Trials.errors` gives them.
        target: how often two recordings are by one speaker.
    """
    costs = target * rejected + (1 - target) * accepted
    return float(costs.min() / min(target, 1 - target))


def embedding_of(prediction: ClassPrediction) -> Floats:
    """The model's embedding; of a model without one, how much better each training speaker fits than on average
    (anchor models, Sturim et al. 2001): the logarithms of the probabilities less their mean."""
    if prediction.embedding is not None:
        return prediction.embedding.astype(np.float64)
    logs = np.log(np.maximum(prediction.probabilities.astype(np.float64), _SMALLEST))
    centred: Floats = logs - logs.mean()
    return centred


class SpeakerEvaluator(Evaluator):
    """Judges embeddings by all pairs of recordings, and names where training knows all speakers. Examples have `id` and
    `label` (who speaks), predictions are `ClassPrediction`. It knows no threshold before it has seen all.

    Metrics: `eer`, the equal error rate; `min_dcf`, the detection cost where one pair in a hundred is by one speaker;
    and where all speakers are known those of `ClassificationEvaluator`. Intervals resample recordings, so that what is
    said of a few speakers is no surer than their number allows: they do not resample speakers.
    """

    primary = EER

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._named = ClassificationEvaluator(labels)
        self._unknown = 0
        self._rows = [_table([], [], [], [])]

    def update(self, predictions: Sequence[ClassPrediction], examples: Sequence[Utterance]) -> None:
        known = set(self._labels)
        pairs = [(each, example) for each, example in zip(predictions, examples, strict=True) if example.label in known]
        self._named.update([each for each, _ in pairs], [example for _, example in pairs])
        self._unknown += len(examples) - len(pairs)
        names = [self._labels[each.index] for each in predictions]
        vectors = [embedding_of(each).astype(np.float32) for each in predictions]
        self._rows.append(
            _table([each.id for each in examples], [str(each.label) for each in examples], names, vectors)
        )

    def reduce(self, engine: Engine) -> None:
        self._named.reduce(engine)
        self._unknown = int(engine.reduce(float(self._unknown)))
        self._rows = [gather_table(self.table(), engine)]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        errors = _trials(table).errors(np.ones(min(MOST, len(table))))
        found = {"eer": equal_error_rate(*errors), "min_dcf": minimum_detection_cost(*errors)}
        return found if self._unknown else {**found, **self._named.compute()}

    def table(self) -> pa.Table:
        """One row a recording: `id`, `target` (who speaks), `prediction` (which training speaker fits best), and the
        `embedding`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        trials, kept = _trials(table), _kept(len(table))
        return np.array([equal_error_rate(*trials.errors(row[kept])) for row in weights])

    def details(self) -> dict[str, Any]:
        """How many `trials` are by the `same` and by `different` speakers, the cosine at the equal error rate
        (`threshold`); and as `ClassificationEvaluator` has them, where all speakers are known."""
        trials = _trials(self.table())
        accepted, rejected = trials.errors(np.ones(min(MOST, len(self.table()))))
        same = int(trials.same.sum())
        found: dict[str, Any] = {"trials": {"same": same, "different": len(trials.same) - same}}
        if len(accepted) > 1:
            at = max(0, int(np.argmax(accepted >= rejected)) - 1)
            found["threshold"] = float(trials.scores[trials.last[at]])
        return found if self._unknown else {**self._named.details(), **found}

    def sections(self) -> list[Section]:
        from plait.report import Section

        if not len(self.table()):
            return []
        known, details = ([] if self._unknown else self._named.sections()), self.details()
        counts = details["trials"]
        text = (
            f"{counts['same']:,} pairs of recordings by one speaker and {counts['different']:,} by two, compared by "
            "the cosine of their embeddings."
        )
        if "threshold" in details:
            text += f" At a cosine of {details['threshold']:.3f} as many of these are rejected as of those accepted."
        return [Section("Verification", text), *known]


def _kept(count: int) -> npt.NDArray[np.int64]:
    """The recordings whose pairs are trials."""
    return np.linspace(0, count - 1, min(MOST, count)).astype(np.int64)


def _trials(table: pa.Table) -> Trials:
    kept = _kept(len(table))
    rows = table.take(pa.array(kept))
    embeddings = np.asarray(rows["embedding"].to_pylist(), np.float64).reshape(len(kept), -1)
    return Trials.of(embeddings, rows["target"].to_pylist())


def _table(
    ids: Sequence[str], speakers: Sequence[str], names: Sequence[str], embeddings: Sequence[npt.NDArray[np.float32]]
) -> pa.Table:
    columns = {name: pa.array(values, pa.string()) for name, values in
               (("id", ids), ("target", speakers), ("prediction", names))}  # fmt: skip
    vectors = pa.array([each.tolist() for each in embeddings], pa.list_(pa.float32()))
    return pa.table({**columns, "embedding": vectors})
