"""What is learned: which rating does a user give an item?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from plait.errors import DataError
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_recommendation.interactions import InteractionData
from plait_recommendation.pair_reading import Labelled, PairOptions, columns_of, parse_pair, protocol, read_pairs, said
from plait_recommendation.pairs import Pair, Pairs
from plait_recommendation.rating.estimates import Estimate
from plait_recommendation.rating.evaluation import RatingEvaluator


class RatingDataOptions(PairOptions):
    """The recipe's `data` block for rating prediction."""

    refit: bool = True
    """Whether, once valid is judged, models are fitted once more on train and valid before test is."""


class RatingPrediction(Task):
    """The rating that a user gives an item. Examples are `Pair`s, predictions `Estimate`s; it knows no model."""

    Options: ClassVar[type[DataOptions]] = RatingDataOptions
    options: RatingDataOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read events with ratings; see `read_pairs`.

        Raises:
            DataError: there are no ratings, one is no finite number (`data.on_error=skip` leaves such events out), all
                are equal, or something else is wrong with the events.
        """
        splits = read_pairs(
            source, self.options, seed=self.seed, problem=problem, label=_rated, classes=False,
            refit=self.options.refit,
        )  # fmt: skip
        if problem is None:
            assert isinstance(splits.train, Pairs)  # `read_pairs` made it
            given = splits.train.targets
            if given.min() == given.max():
                raise DataError(
                    f"all {len(given):,} training ratings are {given[0]:g}: there is nothing to learn",
                    hint="name the column of ratings: data.fields.rating=COLUMN",
                )
        return splits

    def problem(self, splits: Splits) -> Problem:
        """{"columns": kinds by table and column, "protocol": how the pairs were divided}."""
        assert isinstance(splits.train, Pairs)
        return {
            "columns": columns_of(splits.train),
            "protocol": protocol(self.options, splits.train.data, self.seed),
        }  # fmt: skip

    def evaluator(self, problem: Problem, split: Split) -> RatingEvaluator:
        return RatingEvaluator(protocol=said(problem["protocol"]))

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Pair:
        """A pair from the input port `row`: a mapping (or JSON text) with user and item."""
        return parse_pair(inputs, problem)

    def present(self, prediction: Estimate, problem: Problem) -> Prediction:
        """The rating; where training has not seen the user or the item, `known_user` or `known_item` is 0 in the
        scores, and the estimate rests on the mean and the other's bias."""
        known = {"known_user": float(prediction.known_user), "known_item": float(prediction.known_item)}
        return Prediction(prediction.rating, known, {"rating": prediction.rating})


def _rated(data: InteractionData) -> Labelled:
    if data.interactions.ratings is None:
        features = data.interactions.features
        names = [] if features is None else features.column_names
        raise DataError(
            f"there is no column of ratings; further columns are {', '.join(map(repr, names)) or 'none'}",
            hint="name it: data.fields.rating=COLUMN",
        )
    return Labelled(data.interactions.ratings)
