"""What is learned: how probable is it that a user clicks an item, or likes it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from plait.errors import DataError, did_you_mean
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_recommendation.ctr.evaluation import ClickEvaluator
from plait_recommendation.interactions import InteractionData
from plait_recommendation.pair_reading import Labelled, PairOptions, columns_of, parse_pair, protocol, read_pairs, said
from plait_recommendation.pairs import Pair, Pairs, Targets
from plait_recommendation.wording import counted

LABELS = ("label", "clicked", "click")
"""What the column of labels may be called where `data.label` does not say."""


class ClickDataOptions(PairOptions):
    """The recipe's `data` block for click prediction."""

    label: str | None = None
    """The column of 0 and 1 (false and true); None: label, clicked or click, else ratings by `threshold`."""
    threshold: float | None = Field(default=None)
    """A pair is a click where its rating is at least this."""


class ClickPrediction(Task):
    """The probability of a click. Examples are `Pair`s, predictions numbers in [0, 1]; it knows no model."""

    Options: ClassVar[type[DataOptions]] = ClickDataOptions
    options: ClickDataOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read events with their labels and all further columns; see `read_pairs`.

        Raises:
            DataError: no label and no rating, a label that is neither 0 nor 1, one class only, and whatever is wrong
                with the events.
        """
        splits = read_pairs(
            source, self.options, seed=self.seed, problem=problem, label=self._labelled, classes=True
        )  # fmt: skip
        notes = list(splits.notes)
        for name in splits.names():
            targets = splits[name].targets  # type: ignore[union-attr]  # `read_pairs` made them
            classes = np.unique(targets)
            if len(classes) == 1 and name == "train" and problem is None:
                raise DataError(
                    f"one class only: all {len(targets):,} training pairs are labelled {int(classes[0])}",
                    hint="clicks need examples without click, too: give impressions, or ratings and data.threshold",
                )
            if len(classes) == 1:
                notes.append(f"{name} has one class only ({int(classes[0])}): its AUC is not defined")
        return replace(splits, notes=tuple(notes))

    def problem(self, splits: Splits) -> Problem:
        """{"columns": kinds by table and column, "protocol": how the pairs were divided}."""
        assert isinstance(splits.train, Pairs)  # `read` made it
        data = splits.train.data
        chosen = {"label": self.options.label, "threshold": self.options.threshold}
        return {"columns": columns_of(splits.train), "protocol": protocol(self.options, data, self.seed) | chosen}

    def evaluator(self, problem: Problem, split: Split) -> ClickEvaluator:
        return ClickEvaluator(protocol=said(problem["protocol"]))

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Pair:
        """A pair from the input port `row`: a mapping (or JSON text) with user, item, and further columns.

        What is known of users and items from training is added; ids that training has not seen are "other".
        """
        return parse_pair(inputs, problem)

    def present(self, prediction: float, problem: Problem) -> Prediction:
        """The probability, as prediction and on the output port `probability`."""
        return Prediction(prediction, {"click": prediction}, {"probability": prediction})

    def _labelled(self, data: InteractionData) -> Labelled:
        features, options = data.interactions.features, self.options
        names = [] if features is None else features.column_names
        column = options.label or next((name for name in LABELS if name in names), None)
        if column is not None and options.threshold is not None and options.label is not None:
            raise DataError("data.label and data.threshold are both given", hint="keep one: they make other labels")
        if column is None or options.threshold is not None:
            return self._rated(data, names)
        if column not in names:
            raise DataError(
                f"no column {column!r} of labels; further columns are {', '.join(map(repr, names)) or 'none'}",
                hint=did_you_mean(column, names) or "name it: data.label=COLUMN",
            )
        assert features is not None
        targets, wrong = _binary(features.column(column), column)
        if len(wrong) and options.on_error == "stop":
            raise _no_label(features.column(column), column, data, wrong)
        said = f"skipped {counted(len(wrong), 'pair', 'pairs')} whose {column!r} is neither 0 nor 1"
        return Labelled(targets, (column,), (said,) if len(wrong) else ())

    def _rated(self, data: InteractionData, names: list[str]) -> Labelled:
        ratings, threshold = data.interactions.ratings, self.options.threshold
        if ratings is None:
            raise DataError(
                f"no column of labels ({', '.join(LABELS)}) and no rating; further columns are "
                f"{', '.join(map(repr, names)) or 'none'}",
                hint="name it: data.label=COLUMN, or data.fields.rating=COLUMN with data.threshold=4",
            )
        if threshold is None:
            low, high = float(ratings.min()), float(ratings.max())
            raise DataError(
                f"there are ratings from {low:g} to {high:g} and no labels",
                hint=f"say which are clicks: data.threshold={(low + high) / 2:g} (and above); or data.label=COLUMN",
            )
        return Labelled((ratings >= threshold).astype(np.float32), (), (f"a click is a rating >= {threshold:g}",))


def _binary(column: pa.ChunkedArray, name: str) -> tuple[Targets, npt.NDArray[np.int64]]:
    """0 and 1 of numbers, booleans or their texts, NaN for anything else; and the positions of these."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        words = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        ones, zeros = (pc.is_in(words, pa.array(names)) for names in (["1", "true", "1.0"], ["0", "false", "0.0"]))
        column = pc.case_when(pc.make_struct(ones, zeros), pa.scalar(1.0), pa.scalar(0.0))  # else null
    try:
        numbers = np.array(column.cast(pa.float32(), safe=False).to_numpy(), np.float32)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"labels in {name!r} are {column.type}; expected 0 and 1", hint=_LABELS_ARE) from error
    wrong = np.flatnonzero(~((numbers == 0) | (numbers == 1)))
    numbers[wrong] = np.nan
    return numbers, wrong


def _no_label(
    column: pa.ChunkedArray, name: str, data: InteractionData, wrong: npt.NDArray[np.int64]
) -> DataError:  # fmt: skip
    first = wrong[np.argmin(data.interactions.rows[wrong])]
    row = int(data.interactions.rows[first]) + 1
    return DataError(
        f"row {row}: {name!r} is {column[int(first)].as_py()!r}; {len(wrong):,} of {len(column):,} labels are neither "
        "0 nor 1",
        hint=f"{_LABELS_ARE}; data.on_error=skip leaves such pairs out",
        details={"row": row, "field": name, "rows": len(wrong)},
    )


_LABELS_ARE = "labels are 0 and 1 (false and true); ratings become labels by data.threshold"
