"""What is learned of a text, or of two: its class, its labels, or a number?"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from plait.checking import data_fingerprint, shared
from plait.classes import Classes, alike, check_known, classes_of, present_class
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.listing import Fault, Item, name_of, settle, several
from plait.options import DataOptions
from plait.splitting import Division, limited
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.examples import TextExample, TextSplit
from plait_nlp.reading import Layout, TextOptions, list_texts, text_media
from plait_nlp.text_classification.evaluation import LabelSetEvaluator, NumberEvaluator, TextClassEvaluator
from plait_nlp.text_classification.predictions import LabelSetPrediction, NumberPrediction

SUPPORTED = (
    "a CSV, TSV, JSONL or Parquet file (or a folder with train, valid and test of them) with the columns text and"
    " label (data.fields renames them), a folder of .txt files in class folders, a datasets directory, or a sequence"
)


class ClassificationOptions(TextOptions):
    """The recipe's `data` block for texts with a target."""

    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The classes in the order of the model's outputs; None: those of the training data."""
    separator: str = Field(default="|", min_length=1)
    """Between the labels of one text, in tables that cannot hold lists (multi-label only)."""

    @model_validator(mode="after")
    def _once(self) -> ClassificationOptions:
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("labels names a class twice")
        return self


class TextTask(Task):
    """A target for a text, perhaps with a pair. It knows no model. A subclass says what the target is.

    Problems have "objective": "classification", "target": "class", "labels" or "number", "pairs" (whether examples have
    a second text), "characters" (the median of the training texts), and "labels" in the order of outputs.
    """

    Options: ClassVar[type[DataOptions]] = ClassificationOptions
    target: ClassVar[str]
    classes: ClassVar[bool] = False
    may_be_empty: ClassVar[tuple[str, ...]] = ()

    options: ClassificationOptions

    @abstractmethod
    def value(self, raw: Any) -> Any:
        """A target from a cell.

        Raises:
            ValueError: says what was expected.
        """

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read texts and targets, and divide them. See `list_texts` for what a source may be.

        Raises:
            DataError: names files and lines and what to do: unreadable data, missing columns, empty texts, missing or
                unknown labels (all at once), one class only.
        """
        media = text_media("text", supported=SUPPORTED, target="label", classes=self.classes)
        layout = Layout(
            media=media, required=("text", "label"), optional=("pair",), folders=True, may_be_empty=self.may_be_empty
        )
        given = self._given(problem)
        if source is None:
            if given is None:
                raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
            return Splits(notes=("no data: the classes are given",))
        found = list_texts(source, layout=layout, options=self.options)
        listing = found.listing
        self._check_rows(listing)
        notes = [*found.notes, *listing.notes(), *self._settled(listing.faults, len(listing) + len(listing.faults))]
        if not len(listing):
            raise DataError(
                f"no texts in {source if isinstance(source, str) else 'the data'}", hint=f"expected {SUPPORTED}"
            )
        options = self.options
        division = Division(
            media=media, how=options.split, valid_fraction=options.valid_fraction, seed=self.seed,
            test_fraction=options.test_fraction, fixed=given is not None,
        )  # fmt: skip
        parts = division.of(listing.parts)
        classes = self._classes(listing, parts, given)
        parts = limited(parts, media=media, most=options.limit, seed=self.seed)
        splits = {name: TextSplit([_example(each) for each in items]) for name, items in parts.items()}
        notes += [
            *shared(splits, nouns="texts", how="apart from case and spaces"),
            *(alike(classes) if classes else []),
        ]
        columns = {
            "id": [each for part in splits.values() for each in part.ids],
            "split": [name for name, part in splits.items() for _ in range(len(part))],
        }
        self._known = None if classes is None else list(classes.names)
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _given(self, problem: Problem | None) -> Classes | None:
        if problem is not None and "labels" in problem:
            return Classes(tuple(problem["labels"]), "the trained run")
        return Classes(self.options.labels, "data.labels") if self.options.labels else None

    def _check_rows(self, listing: Any) -> None:
        """Turn cells into targets; whoever has a pair has it everywhere."""
        with_pair = sum(item.content.get("pair") is not None for items in listing.parts.values() for item in items)
        for split, items in listing.parts.items():
            kept = []
            for item in items:
                pair = item.content.get("pair")
                if with_pair and (not isinstance(pair, str) or not pair.strip()):
                    listing.faults.append(Fault(item.where, "has an empty pair, where others have one"))
                    continue
                if not isinstance(item.content["text"], str):
                    listing.faults.append(
                        Fault(item.where, f"has a text that is {type(item.content['text']).__name__}")
                    )
                    continue
                try:
                    item.content["label"] = item.target if self.classes else self.value(item.content["label"])
                except ValueError as error:
                    listing.faults.append(Fault(item.where, f"has the label {item.content['label']!r}; {error}"))
                    continue
                kept.append(item)
            listing.parts[split] = kept

    def _settled(self, faults: Sequence[Fault], total: int) -> list[str]:
        return settle(faults, total=total, on_error=self.options.on_error, nouns="texts")

    def _classes(self, listing: Any, parts: Mapping[str, Sequence[Item]], given: Classes | None) -> Classes | None:
        """The classes of the training data, once all labels are seen to be among them."""
        return None

    def problem(self, splits: Splits) -> Problem:
        """See the class."""
        seen = next((part for name in splits.names() if isinstance(part := splits[name], TextSplit)), None)
        labels = getattr(self, "_known", None) or (list(self.options.labels) if self.options.labels else None)
        found: dict[str, Any] = {
            "objective": "classification", "target": self.target,
            "pairs": bool(seen) and any(each.pair is not None for each in seen or ()),
            "characters": int(np.median([each.size for each in seen])) if seen else 100,
        }  # fmt: skip
        if self.target != "number":
            if labels is None:
                raise DataError("no data and no data.labels: the classes are not known", hint=SUPPORTED)
            found["labels"] = labels
        return found

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> TextExample:
        """An example from the ports `text` and, where the problem has pairs, `pair`.

        Raises:
            InputError: one is missing, unknown, empty, or no text.
        """
        unknown = [name for name in inputs if name not in ("text", "pair")]
        if unknown:
            raise InputError(f"there is no input {unknown[0]!r}", hint=did_you_mean(unknown[0], ["text", "pair"]))
        text, pair = inputs.get("text"), inputs.get("pair")
        if isinstance(text, TextExample):
            return text
        if (
            pair is None
            and problem["pairs"]
            and isinstance(text, Sequence)
            and not isinstance(text, str)
            and len(text) == 2
        ):
            text, pair = text
        if (pair is not None) != problem["pairs"]:
            raise InputError(
                "the model was fitted on pairs of texts"
                if problem["pairs"]
                else "the model was fitted on single texts",
                hint='give {"text": ..., "pair": ...}' if problem["pairs"] else "leave out pair",
            )
        return TextExample(checked_text(text, "text"), None if pair is None else checked_text(pair, "pair"))


def checked_text(value: Any, port: str) -> str:
    """A text that is not blank.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, str):
        raise InputError(f"{port} is {type(value).__name__}, not a text", hint="give a str")
    if not value.strip():
        raise InputError(f"the {port} is empty")
    return value


def _example(item: Item) -> TextExample:
    return TextExample(item.content["text"], item.content.get("pair"), item.content["label"], item.id)


class TextClassification(TextTask):
    """One class a text. Predictions are `plait.evaluation.ClassPrediction`."""

    target: ClassVar[str] = "class"
    classes: ClassVar[bool] = True

    def value(self, raw: Any) -> str:
        return str(raw)

    def _classes(self, listing: Any, parts: Mapping[str, Sequence[Item]], given: Classes | None) -> Classes:
        classes = given or classes_of(listing, parts["train"])
        check_known(parts, classes, media=listing.media)
        return classes

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return TextClassEvaluator(problem["labels"])

    def present(self, prediction: Any, problem: Problem) -> Prediction:
        """As `present_class`: the most probable class, and scores."""
        return present_class(prediction, problem["labels"])


class MultiLabelClassification(TextTask):
    """Any number of labels a text. Predictions are `LabelSetPrediction`."""

    target: ClassVar[str] = "labels"
    may_be_empty: ClassVar[tuple[str, ...]] = ("label",)  # a text with none of the labels

    def value(self, raw: Any) -> tuple[str, ...]:
        if isinstance(raw, str):
            raw = [each.strip() for each in raw.split(self.options.separator) if each.strip()]
        if not isinstance(raw, Sequence):
            raise ValueError(f"expected a list of names, or names with {self.options.separator!r} between them")
        names = [name_of(each) for each in raw]
        if None in names:
            raise ValueError("expected names")
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def _classes(self, listing: Any, parts: Mapping[str, Sequence[Item]], given: Classes | None) -> Classes:
        drawn = [items for split, items in parts.items() if split == "train" or split not in listing.parts]
        counts = Counter(name for items in drawn for item in items for name in item.content["label"])
        classes = given or Classes(tuple(sorted(counts)))
        if not classes.names:
            raise DataError(
                "no training text has a label", hint=f"expected names with {self.options.separator!r} between"
            )
        for split, items in parts.items():
            for item in items:
                for name in item.content["label"]:
                    if name not in classes.names:
                        lacking = classes.given or "the training data"
                        raise DataError(
                            f"{item.where}: the label {name!r} ({split}) is not among those of {lacking}",
                            hint=did_you_mean(name, classes.names) or f"known are {several(map(repr, classes.names))}",
                        )
        return classes

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return LabelSetEvaluator(problem["labels"])

    def present(self, prediction: LabelSetPrediction, problem: Problem) -> Prediction:
        """The labels with a probability of a half or more, the most probable first; scores of all."""
        order = np.argsort(-prediction.probabilities, kind="stable")
        names = [problem["labels"][index] for index in order if prediction.probabilities[index] >= 0.5]
        scores = {problem["labels"][index]: float(prediction.probabilities[index]) for index in order[:20]}
        return Prediction(prediction=names, scores=scores, outputs={"labels": names})


class TextRegression(TextTask):
    """A number for a text, or for a pair (how alike two sentences are). Predictions are `NumberPrediction`."""

    target: ClassVar[str] = "number"

    def value(self, raw: Any) -> float:
        try:
            found = float(raw)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            raise ValueError("expected a finite number")
        return found

    def problem(self, splits: Splits) -> Problem:
        """See `TextTask`, and "mean" and "deviation" of the training targets, by which networks scale them."""
        train = splits.train
        values = [example.label for example in train] if isinstance(train, TextSplit) else []
        deviation = float(np.std(values)) if values else 1.0
        if values and deviation == 0:
            raise DataError(f"every training target is {values[0]}", hint="there is nothing to learn from a constant")
        return {**super().problem(splits), "mean": float(np.mean(values)) if values else 0.0, "deviation": deviation}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return NumberEvaluator()

    def present(self, prediction: NumberPrediction, problem: Problem) -> Prediction:
        """The number."""
        value = float(prediction.value)
        return Prediction(prediction=value, outputs={"value": value})
