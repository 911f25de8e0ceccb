"""How far are predicted ratings from those that were given?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait_recommendation.pairs import Pairs
from plait_recommendation.rating.estimates import Estimate
from plait_registry.specs import Metric

if TYPE_CHECKING:
    from plait.bootstrap import Floats
    from plait.engine.base import Engine
    from plait.report import Section

RMSE = Metric("rmse", False)


class RatingEvaluator(Evaluator):
    """Judges ratings. Examples are `Pairs` or `Pair`, predictions are `Estimate`.

    Metrics, in the unit of the ratings: `rmse`, the root of the mean squared error; `mae`, the mean absolute error;
    `rmse_known` over the pairs whose user and item training has seen, where there are others; `known`, their share.

    Args:
        protocol: how the data were divided, in words, for the report.
    """

    primary = RMSE

    def __init__(self, *, protocol: str = "") -> None:
        self.protocol = protocol
        self._rows = [_table([], np.zeros(0), [])]

    def update(self, predictions: Sequence[Estimate], examples: Sequence[Any]) -> None:
        """Take in estimates and the examples that they are for.

        Raises:
            DataError: an example has no rating.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        if not len(examples):
            return
        if isinstance(examples, Pairs):
            ids, targets = examples.ids(), examples.targets.astype(np.float64)
        else:
            unrated = [example.id for example in examples if example.target is None]
            if unrated:
                raise DataError(f"{unrated[0]}: has no rating to judge an estimate by", hint="evaluate on rated pairs")
            ids, targets = [each.id for each in examples], np.array([each.target for each in examples], np.float64)
        self._rows.append(_table(ids, targets, predictions))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        errors, known = _errors(table), table["known"].to_numpy().astype(bool)
        metrics = {"rmse": _root(errors), "mae": float(np.abs(errors).mean()), "known": float(known.mean())}
        if known.any() and not known.all():
            metrics["rmse_known"] = _root(errors[known])
        return metrics

    def table(self) -> pa.Table:
        """One row an example: `id`, `target`, `prediction`, `known` (training has seen user and item)."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        roots: Floats = np.sqrt(weights @ _errors(table) ** 2 / weights.sum(axis=1))
        return roots

    def details(self) -> dict[str, Any]:
        """The protocol; `rmse_by_rating`, for each rating that is given: its number of pairs, and their RMSE."""
        table = self.table()
        errors, targets = _errors(table), table["target"].to_numpy()
        given = np.unique(targets)
        rows = [[float(each), int((targets == each).sum()), _root(errors[targets == each])] for each in given[:MOST]]
        return {"protocol": self.protocol, "rmse_by_rating": rows}

    def sections(self) -> list[Section]:
        from plait.report import Section, Table

        if not len(self.table()):
            return []
        rows = tuple(map(tuple, self.details()["rmse_by_rating"]))
        text = f"The error by the rating that was given. {self.protocol}"
        return [Section("Ratings", text, Table(("rating", "pairs", "RMSE"), rows))]


MOST = 20  # different ratings that a report shows; a scale with more is not read as a table


def _root(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _errors(table: pa.Table) -> Floats:
    errors: Floats = table["prediction"].to_numpy() - table["target"].to_numpy()
    return errors


def _table(ids: Any, targets: Floats, predictions: Sequence[Estimate]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.string()), "target": pa.array(targets, pa.float64()),
            "prediction": pa.array([each.rating for each in predictions], pa.float64()),
            "known": pa.array([each.known_user and each.known_item for each in predictions], pa.bool_()),
        }
    )  # fmt: skip
