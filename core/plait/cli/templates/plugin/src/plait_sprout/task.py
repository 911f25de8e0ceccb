"""What is learned: which class a row of numbers belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plait.data import carve, fingerprint, limit, named_parts, named_splits
from plait.errors import DataError, InputError
from plait.evaluation import ClassificationEvaluator, ClassPrediction, Evaluator
from plait.tables import column_names, read_table
from plait.task import Prediction, Problem, Split, Splits, Task


@dataclass(frozen=True, slots=True)
class Row:
    """An example: numbers by column name; `id` says where it stands, for error messages."""

    values: Mapping[str, float]
    label: str | None = None
    id: str = ""


class RowClassification(Task):
    """One class a row. Examples are `Row`, predictions `ClassPrediction`; it knows no model."""

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read a table, a directory of tables named after splits, a sequence of rows, or a mapping of splits to either.

        Without named splits a fifth is for testing and a fifth of the rest for validation, drawn by the seed.

        Raises:
            DataError: no data, a cell that is no number, a missing label, one class only, an unknown class.
        """
        parts = {name: [*self._rows(part)] for name, part in self._named(source).items()}
        if "" in parts:
            parts = self._divided(parts[""])
        elif "valid" not in parts and "train" in parts:
            rest, valid = carve([row.label for row in parts["train"]], fraction=0.2, seed=self.seed)
            parts |= {"valid": _at(parts["train"], valid), "train": _at(parts["train"], rest)}
        _check(parts, problem)
        for name, rows in parts.items():
            kept = limit([row.label for row in rows], most=self.options.limit, seed=self.seed)
            parts[name] = _at(rows, kept)
        seen = [*parts.get("train", []), *parts.get("valid", [])]
        trace = fingerprint(f"{row.id} {row.label} {dict(row.values)}" for row in seen)
        return Splits(train=parts.get("train"), valid=parts.get("valid"), test=parts.get("test"), fingerprint=trace)

    def problem(self, splits: Splits) -> Problem:
        rows = splits.train or []
        labels = sorted({str(rows[index].label) for index in range(len(rows))})
        return {"labels": labels, "columns": list(rows[0].values) if len(rows) else []}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return ClassificationEvaluator(problem["labels"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Row:
        row = inputs["row"]
        if isinstance(row, str):
            try:
                row = json.loads(row)
            except ValueError as error:
                raise InputError(f"a row is a JSON object of numbers, not {row!r}") from error
        columns = ", ".join(problem["columns"])
        if not isinstance(row, Mapping) or set(row) != set(problem["columns"]):
            raise InputError(f"expected an object with the columns {columns}, not {row!r}")
        try:
            return Row({name: _number(row[name]) for name in problem["columns"]})
        except (TypeError, ValueError) as error:
            raise InputError(f"every column ({columns}) is a finite number: {error}") from error

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        labels = problem["labels"]
        scores = {label: float(score) for label, score in zip(labels, prediction.probabilities, strict=True)}
        best = labels[prediction.index]
        return Prediction(prediction=best, scores=scores, outputs={"label": best})

    def _named(self, source: Any) -> dict[str, Any]:
        """The parts of a source by split; under "" where it names none."""
        if source is None:
            raise DataError("no data are given", hint="data.source: a table, a directory of them, or a data set's name")
        if isinstance(source, Mapping):
            return named_parts(source)
        if isinstance(source, str | Path) and Path(source).is_dir():
            found = named_splits(Path(source))
            if not found:
                raise DataError(f"{source}: no table named train, valid or test", hint="or name one table itself")
            return dict(found)
        return {"": source}

    def _rows(self, part: Any) -> Sequence[Row]:
        if not isinstance(part, str | Path):
            return list(part)
        fields = dict(self.options.fields)
        label = fields.setdefault("label", "label")
        columns = [name for name in column_names(part) if name != label]
        table = read_table(part, required=["label", *columns], fields=fields)
        labels, cells = table["label"].to_pylist(), [table[name].to_pylist() for name in columns]
        rows = []
        for index, (name, *row) in enumerate(zip(labels, *cells, strict=True)):
            try:
                values = {column: _number(cell) for column, cell in zip(columns, row, strict=True)}
            except (TypeError, ValueError) as error:
                raise DataError(f"{table.where(index)}: {error}; every column but {label!r} is a number") from error
            rows.append(Row(values, str(name), f"{Path(part).name}#{index + 1}"))
        return rows

    def _divided(self, rows: list[Row]) -> dict[str, list[Row]]:
        rest, test = carve([row.label for row in rows], fraction=0.2, seed=self.seed)
        train, valid = carve([rows[index].label for index in rest], fraction=0.2, seed=self.seed)
        return {"train": _at(rows, rest[train]), "valid": _at(rows, rest[valid]), "test": _at(rows, test)}


def demo() -> list[Row]:
    """Generated rows: three classes around three points of the plane."""
    generator = np.random.default_rng(0)
    centres = {"near": (0.0, 0.0), "far": (4.0, 1.0), "high": (1.0, 4.0)}
    return [
        Row({"x": float(x), "y": float(y)}, label, f"{label}-{index}")
        for label, centre in centres.items()
        for index, (x, y) in enumerate(generator.normal(centre, 1.0, size=(60, 2)))
    ]


def _check(parts: Mapping[str, Sequence[Row]], problem: Problem | None) -> None:
    """Every row has a known label and the same columns as the first."""
    labels = set(problem["labels"]) if problem else {row.label for row in parts.get("train", [])}
    if problem is None and len(labels) < 2:
        raise DataError(f"the training data have {len(labels)} class", hint="a classifier needs two classes at least")
    columns = problem["columns"] if problem else list(next(iter(parts["train"])).values)
    for name, rows in parts.items():
        for row in rows:
            if row.label is None or row.label not in labels:
                raise DataError(f"{name}, row {row.id}: label {row.label!r} is not one of {sorted(map(str, labels))}")
            if set(row.values) != set(columns):
                raise DataError(f"{name}, row {row.id}: columns {list(row.values)}, expected {columns}")


def _at(rows: Sequence[Row], indices: Any) -> list[Row]:
    return [rows[index] for index in indices]


def _number(cell: Any) -> float:
    number = float(cell)
    if not np.isfinite(number):
        raise ValueError(f"{cell!r} is not a finite number")
    return number
