"""How good are predicted probabilities of a click?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait_recommendation.ctr.ranking_quality import grouped_auc, weighted_auc
from plait_recommendation.pairs import Pairs
from plait_registry.specs import Metric

if TYPE_CHECKING:
    from plait.bootstrap import Floats
    from plait.engine.base import Engine
    from plait.report import Section

AUC = Metric("auc", True)
BINS = 15
SMALLEST = float(np.finfo(np.float32).eps)
"""Probabilities are clipped here for the log loss, as in classification: a certain wrong answer costs 15.9 nats."""


class ClickEvaluator(Evaluator):
    """Judges probabilities of clicks. Examples are `Pairs` or `Pair`, predictions are numbers in [0, 1].

    Metrics: `auc` (a tie is half; `ctr.ranking_quality`), `log_loss` in nats, `calibration_error` (15 bins of equal
    width: the mean distance of the mean probability from the share of clicks), `gauc` (AUC within users), `click_rate`
    and `mean_probability`. `auc` is NaN where the split has one class only.

    Args:
        protocol: how the data were divided, in words, for the report.
    """

    primary = AUC

    def __init__(self, *, protocol: str = "") -> None:
        self.protocol = protocol
        self._rows = [_table([], [], np.zeros(0, np.float32), np.zeros(0))]

    def update(self, predictions: Sequence[float], examples: Sequence[Any]) -> None:
        """Take in probabilities and the examples that they are for.

        Raises:
            DataError: an example has no label.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        if not len(examples):
            return
        if isinstance(examples, Pairs):
            ids: Any = examples.ids()
            users: Any = examples.data.users.ids.take(pa.array(examples.users)).cast(pa.string())
            targets = examples.targets
        else:
            unlabelled = [example.id for example in examples if example.target is None]
            if unlabelled:
                raise DataError(
                    f"{unlabelled[0]}: has no label to judge a prediction by", hint="evaluate labelled data"
                )
            ids, targets = [each.id for each in examples], np.array([each.target for each in examples], np.float32)
            users = [str(example.values.get("user")) for example in examples]
        self._rows.append(_table(ids, users, targets, np.asarray(predictions, np.float64)))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        targets, probabilities = _numbers(table)
        users = table["user"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        clipped = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
        return {
            "auc": float(weighted_auc(probabilities, targets, np.ones((1, len(targets))))[0]),
            "log_loss": float(-np.where(targets > 0, np.log(clipped), np.log1p(-clipped)).mean()),
            "calibration_error": calibration_error(probabilities, targets),
            "gauc": grouped_auc(probabilities, targets, users),
            "click_rate": float(targets.mean()),
            "mean_probability": float(probabilities.mean()),
        }

    def table(self) -> pa.Table:
        """One row an example: `id`, `user`, `target` (0 or 1), `probability`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        """AUC; one half for a replicate that drew one class only, which orders nothing."""
        targets, probabilities = _numbers(table)
        return np.nan_to_num(weighted_auc(probabilities, targets, weights), nan=0.5)

    def details(self) -> dict[str, Any]:
        """The protocol; `undecided`, examples whose probability is not finite."""
        return {"protocol": self.protocol, "undecided": int((~np.isfinite(_numbers(self.table())[1])).sum())}

    def sections(self) -> list[Section]:
        from plait.figures import reliability_diagram
        from plait.report import Section

        targets, probabilities = _numbers(self.table())
        kept = np.isfinite(probabilities)
        if not kept.any():
            return []
        figure = reliability_diagram(probabilities[kept], targets[kept], np.linspace(0, 1, BINS + 1))
        text = "How often pairs of each predicted probability were clicked. On the diagonal, probabilities are true. "
        return [Section("Calibration", text + self.protocol, figure=figure)]


def calibration_error(probabilities: Floats, targets: Floats) -> float:
    """The expected calibration error (Guo et al. 2017, equation 3) of binary probabilities: bins of equal width,
    closed on the right; each bin's |mean probability - share of clicks|, weighted by its examples."""
    bins = np.clip(np.ceil(np.nan_to_num(probabilities) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, targets - probabilities, BINS)).sum() / len(targets))


def _numbers(table: pa.Table) -> tuple[Floats, Floats]:
    return table["target"].to_numpy().astype(np.float64), table["probability"].to_numpy()


def _table(ids: Any, users: Any, targets: npt.NDArray[np.float32], probabilities: Floats) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.string()), "user": pa.array(users, pa.string()),
            "target": pa.array(targets > 0.5).cast(pa.int8()), "probability": pa.array(probabilities),
        }
    )  # fmt: skip
