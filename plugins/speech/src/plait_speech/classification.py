"""What do the tasks share that learn one label for a recording: a word, an emotion, a speaker?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from plait.classes import Classes, alike, check_known, classes_of, given_classes, present_class
from plait.errors import DataError
from plait.evaluation import ACCURACY, ClassificationEvaluator, ClassPrediction
from plait.listing import Item, several
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_registry.specs import Metric
from plait_speech.audio import Utterance
from plait_speech.recordings import RecordingOptions, SpeechSplit, check_recordings, heard, list_recordings, read_input


class ClassificationOptions(RecordingOptions):
    """The recipe's `data` block of the speech classification tasks."""

    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The classes in the order of the model's outputs; None: those of the training data."""

    @field_validator("labels")
    @classmethod
    def _once(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) < len(labels):
            raise ValueError("labels names a class twice")
        return labels


class SpeechClassification(Task):
    """One class a recording. Examples are `Utterance` with a label, predictions `ClassPrediction`; it knows no model.

    A task is a subclass with its metric, and with other options where its `media` is another.
    """

    Options: ClassVar[type[DataOptions]] = ClassificationOptions
    metric: ClassVar[Metric] = ACCURACY
    """One of `ClassificationEvaluator`'s: it picks the best checkpoint."""
    open_set: ClassVar[bool] = False
    """Whether `valid` and `test` may hold labels that training lacks (speakers that are verified, not named)."""

    options: ClassificationOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read recordings and labels, check every one, and divide them. See `list_recordings` for what a source may be.

        Raises:
            DataError: names the files and what to do: unreadable or missing data, broken, silent or too short
                recordings (all at once), missing labels, one class only, labels that training lacks, unknown speakers.
        """
        given = given_classes(self.options.labels)
        if problem is not None:
            given = Classes(tuple(problem["labels"]), "the trained run")
        if source is None and given is not None:
            return Splits(notes=("no data: the classes are given",))
        listed = list_recordings(source, options=self.options, seed=self.seed, fixed=given is not None)
        classes = given or classes_of(listed.listing, listed.parts["train"])
        closed = {name: items for name, items in listed.parts.items() if name == "train" or not self.open_set}
        check_known(closed, classes, media=self.options.media)
        splits = check_recordings(listed, options=self.options, seed=self.seed, classes=classes.names)
        return replace(splits, notes=(*splits.notes, *alike(classes), *_single(listed.parts)))

    def problem(self, splits: Splits) -> Problem:
        """{"labels": names in the order of outputs, "rate": of most training utterances, Hz, "seconds": {"median",
        "longest"} of the training utterances}.

        Without data (only `data.labels`) it says 16,000 Hz and one second.
        """
        seen = next((part for name in splits.names() if isinstance(part := splits[name], SpeechSplit)), None)
        labels = seen.classes if seen is not None else self.options.labels
        if labels is None:
            raise DataError("no data and no data.labels: the classes are not known", hint=self.options.media.supported)
        return {"labels": list(labels), **heard(splits)}

    def evaluator(self, problem: Problem, split: Split) -> ClassificationEvaluator:
        return ClassificationEvaluator(problem["labels"], primary=self.metric)

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Utterance:
        """As `read_input`: a recording from the port `audio`."""
        return read_input(inputs, options=self.options)

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        """As `present_class`: the most probable class, and scores."""
        return present_class(prediction, problem["labels"])


def _single(parts: Mapping[str, Sequence[Item]]) -> list[str]:
    """A note on classes that are heard once: they are trained on, and cannot be judged."""
    counts = Counter(item.target for items in parts.values() for item in items)
    once = [label for label, count in counts.items() if count == 1]
    return [f"{len(once)} classes have one recording only: {several(once)}"] if once else []
