"""What is learned: which class a row of a table belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from plait.data import carve, fingerprint, limit
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_tabular.rows import Kind, Record, Row, column_kinds, convert, read_records

SHOWN = 10  # faults in one message


class TabularOptions(DataOptions):
    """The recipe's `data` block for tables. `data.fields.label` names the column of the classes."""

    text: tuple[str, ...] = ()
    """Columns whose numbers are names (a postal code): one-hot, not standardised."""
    ignore: tuple[str, ...] = ()
    """Columns that are left out: row numbers, keys."""
    valid_fraction: float = Field(default=0.15, ge=0, lt=1)
    """The part of the training rows that becomes `valid` where the data name none; 0: no valid."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of all rows that becomes `test` where the data name no splits; 0: no test."""


class TabularClassification(Task):
    """One class a row. Examples are `Row`, predictions `ClassPrediction`; it knows no model."""

    Options: ClassVar[type[DataOptions]] = TabularOptions
    options: TabularOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read rows, check every cell, divide them; see `read_records` for what a source may be.

        Raises:
            DataError: names file, line and column: no label, no value, not a number, one class only, a new class.
        """
        records = self._divided(read_records(source))
        if not any(records.values()):
            raise DataError("the data hold no row")
        label = self._label_column(records)
        kinds: Mapping[str, Kind] = problem["columns"] if problem else self._columns(records["train"], label)
        parts, faults = _rows(records, kinds, label)
        notes = self._settle(faults, sum(map(len, records.values())))
        known = problem["labels"] if problem else {str(row.label) for row in parts["train"]}
        _check_labels(parts, known)
        for name, rows in parts.items():
            kept = limit([str(row.label) for row in rows], most=self.options.limit, seed=self.seed)
            parts[name] = [rows[index] for index in kept]
        every = [(name, row) for name, rows in parts.items() for row in rows]
        seen = [f"{name} {row.label} {json.dumps(row.values)}" for name, row in every if name != "test"]
        index = pa.table({"id": [row.id for _, row in every], "split": [name for name, _ in every]})
        return Splits(**parts, fingerprint=fingerprint(seen), index=index, notes=notes)

    def problem(self, splits: Splits) -> Problem:
        """{"labels": class names, "columns": "number" or "text" by column}."""
        train: Sequence[Row] = splits.train  # type: ignore[assignment]  # `read` made it a list of rows
        kinds = {name: "text" if isinstance(value, str) else "number" for name, value in train[0].values.items()}
        return {"labels": sorted({str(row.label) for row in train}), "columns": kinds}

    def evaluator(self, problem: Problem, split: Split) -> ClassificationEvaluator:
        return ClassificationEvaluator(problem["labels"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Row:
        """A row from the input port `row`: a mapping from columns to values, or the text of a JSON object.

        Columns that the model was not trained on are left out.
        """
        cells, columns = inputs["row"], problem["columns"]
        if isinstance(cells, str):
            try:
                cells = json.loads(cells)
            except ValueError as error:
                raise InputError(f"row: not JSON: {error}", hint='write {"column": value, ...}') from error
        if not isinstance(cells, Mapping):
            raise InputError(f"row: {type(cells).__name__}, expected a mapping with the columns {', '.join(columns)}")
        try:
            return Row(convert(cells, columns))
        except ValueError as error:
            missing = next((name for name in columns if name not in cells), "")
            unused = [str(name) for name in cells if name not in columns]
            raise InputError(f"row: {error}", hint=did_you_mean(missing, unused)) from error

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        """The most probable class, and the probability of each."""
        label = problem["labels"][prediction.index]
        scores = dict(zip(problem["labels"], map(float, prediction.probabilities), strict=True))
        return Prediction(prediction=label, scores=scores, outputs={"label": label})

    def _label_column(self, records: Mapping[str, Sequence[Record]]) -> str:
        label = self.options.fields.get("label", "label")
        if unknown := [name for name in self.options.fields if name != "label"]:
            raise DataError(f"data.fields.{unknown[0]}: only data.fields.label can be set")
        for rows in records.values():
            if rows and label not in rows[0].cells:
                raise DataError(
                    f"{rows[0].where}: no column {label!r}; the columns are {', '.join(map(str, rows[0].cells))}",
                    hint="name the column of the classes: data.fields.label=COLUMN",
                )
        return label

    def _columns(self, train: Sequence[Record], label: str) -> dict[str, Kind]:
        present = [name for name in train[0].cells if name != label]
        for name in (*self.options.ignore, *self.options.text):
            if name not in present:
                hint = did_you_mean(name, present)
                raise DataError(f"{train[0].where}: no column {name!r} to ignore or to read as text", hint=hint)
        names = [name for name in present if name not in self.options.ignore]
        return column_kinds(train, names, text=self.options.text)

    def _divided(self, records: dict[str, list[Record]]) -> dict[str, list[Record]]:
        label = self.options.fields.get("label", "label")
        missing = {"test": self.options.test_fraction} if set(records) == {"train"} else {}
        if "valid" not in records:
            missing["valid"] = self.options.valid_fraction
        for name, fraction in missing.items():
            train = records.get("train", [])
            rest, part = carve([str(record.cells.get(label)) for record in train], fraction=fraction, seed=self.seed)
            if len(part):
                records = {**records, "train": [train[index] for index in rest], name: [train[index] for index in part]}
        return records

    def _settle(self, faults: Sequence[str], total: int) -> tuple[str, ...]:
        """Stop at the faults, all at once, or skip them with a note."""
        if not faults:
            return ()
        listed = "; ".join(faults[:SHOWN]) + (f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else "")
        if self.options.on_error == "skip":
            return (f"skipped {len(faults)} of {total} rows: {listed}",)
        raise DataError(
            f"{len(faults)} of {total} rows cannot be used: {listed}",
            hint="mend them, read columns of names with data.text, or leave the rows out with data.on_error=skip",
        )


def _rows(
    records: Mapping[str, Sequence[Record]], kinds: Mapping[str, Kind], label: str
) -> tuple[dict[str, list[Row]], list[str]]:
    """The sound rows of each split, and what is wrong with the others."""
    parts: dict[str, list[Row]] = {}
    faults: list[str] = []
    for name, part in records.items():
        parts[name] = []
        for where, cells in part:
            try:
                target = convert(cells, {label: "text"})[label]
                row = Row(convert(cells, kinds), str(target), where.replace("\\", "/").rpartition("/")[2])
            except ValueError as error:
                faults.append(f"{where}: {error}")
            else:
                parts[name].append(row)
    return parts, faults


def _check_labels(parts: Mapping[str, Sequence[Row]], known: set[str] | Sequence[str]) -> None:
    if len(known) < 2:
        raise DataError(
            f"one class only: every training row is labelled {next(iter(known), None)!r}",
            hint="a classifier needs two classes or more; data.fields.label names the column",
        )
    for name, rows in parts.items():
        for row in rows:
            if row.label not in known:
                raise DataError(
                    f"{row.id} of {name} is labelled {row.label!r}, which the training rows are not",
                    hint=did_you_mean(str(row.label), known) or f"known are {', '.join(sorted(known))}",
                )
