"""What is learned: which word, of a known few, is said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, mode
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from plait.data import limit
from plait.errors import DataError, InputError, did_you_mean, near
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_speech.audio import AudioError, Utterance, read_audio
from plait_speech.word_recognition.listing import Fault, Item, Listing, several
from plait_speech.word_recognition.reading import (
    SpeechSplit,
    check_recordings,
    check_samples,
    clipped,
    data_fingerprint,
    shared,
)
from plait_speech.word_recognition.sources import GROUPS, SUPPORTED, list_source
from plait_speech.word_recognition.splitting import Division, How

ALL_SCORES = 20
TOP_SCORES = 5
DEFAULT_RATE = 16_000  # Hz; what a problem says of recordings that nobody has heard


class WordOptions(DataOptions):
    """The recipe's `data` block of the speech classification tasks."""

    pattern: str | None = None
    r"""A regular expression for files' paths below the folder (or below its train, valid and test folders), all of it,
    with the named groups label and perhaps speaker and split: "(?P<speaker>[^/]+)/(?P<label>\d)_.*\.wav". A group named
    train, valid or test puts the files in which it occurs into that split, and all others into train:
    "(?P<label>\d)_(?P<speaker>\w+)_(?:(?P<test>[0-4])|\d+)\.wav"."""
    split: How = "auto"
    """auto: splits that the data name, else stratified; given: only these, none is carved; random, stratified: all data
    are divided anew by the seed; speaker: nobody is heard in training and in testing."""
    test_speaker: str | tuple[str, ...] | None = None
    """Who is tested (leave one speaker out); None under split=speaker: drawn by the seed."""
    valid_speaker: str | tuple[str, ...] | None = None
    """Whose recordings become `valid`; None: some of the training speakers' utterances."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part of the training utterances that becomes `valid` where the data name none; 0: no valid."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of all utterances (of all speakers under split=speaker) that becomes `test`; 0: no test."""
    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The classes in the order of the model's outputs; None: those of the training data."""
    min_seconds: float = Field(default=0.025, ge=0)
    """Shorter recordings are faults: one window of 25 ms is the least that has a spectrum."""
    max_seconds: float = Field(default=60.0, gt=0)
    """Longer recordings are faults, found before they are decoded; give long ones start and end."""
    cache: bool | Literal["auto"] = "auto"
    """Keep samples in memory; auto: where they take less than 512 MiB."""

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        unknown = [name for name in groups if name not in GROUPS]
        if unknown or "label" not in groups:
            found = f"unknown groups {', '.join(unknown)}" if unknown else "no group (?P<label>...)"
            raise ValueError(f"{found}; the groups are {', '.join(GROUPS)}")
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> WordOptions:
        named = [name for name in ("test_speaker", "valid_speaker") if getattr(self, name) is not None]
        if named and self.split not in ("auto", "speaker"):
            raise ValueError(f"{named[0]} divides by speaker, and split is {self.split!r}; set split=speaker")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("labels names a class twice")
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        return self


class WordRecognition(Task):
    """One class an utterance. Examples are `Utterance`, predictions `ClassPrediction`; it knows no model."""

    Options: ClassVar[type[DataOptions]] = WordOptions

    options: WordOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read recordings and labels, check every one, and divide them. See `list_source` for what a source may be.

        Raises:
            DataError: names the files and what to do: unreadable or missing data, broken, silent or too short
                recordings (all at once), missing labels, one class only, labels that training lacks, unknown speakers.
        """
        given, by = self.options.labels, "data.labels"
        if problem is not None:
            given, by = tuple(problem["labels"]), "the trained run"
        if source is None:
            if given is None:
                raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
            return Splits(notes=("no data: the classes are given",))
        listing = list_source(source, fields=self.options.fields, pattern=self.options.pattern)
        total = sum(map(len, listing.parts.values()))
        notes = [*_ignored(listing), *self._settle(listing.faults, total + len(listing.faults))]
        if not total:
            described = source if isinstance(source, str | Path) else "the data"
            raise DataError(f"no recordings in {described}", hint=f"expected {SUPPORTED}")
        parts = self._division(fixed=given is not None).of(listing.parts)
        classes = given or _classes(listing, parts["train"])
        _check_known(parts, classes, by if given else "the training data")
        return self._checked(self._limited(parts), classes, [*notes, *_single(parts)])

    def _division(self, *, fixed: bool) -> Division:
        options = self.options
        return Division(
            how=options.split,
            valid_fraction=options.valid_fraction,
            test_fraction=options.test_fraction,
            test_speakers=_names(options.test_speaker),
            valid_speakers=_names(options.valid_speaker),
            seed=self.seed,
            fixed=fixed,
        )

    def _limited(self, parts: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
        most = self.options.limit
        chosen = {
            name: limit([each.label for each in items], most=most, seed=self.seed) for name, items in parts.items()
        }
        return {name: [items[index] for index in chosen[name]] for name, items in parts.items()}

    def _checked(self, parts: Mapping[str, list[Item]], classes: tuple[str, ...], notes: list[str]) -> Splits:
        items = [item for part in parts.values() for item in part]
        options = self.options
        sound, faults = check_recordings(
            items, shortest=options.min_seconds, longest=options.max_seconds, cache=options.cache
        )
        notes += self._settle(faults, len(items))
        splits: dict[str, SpeechSplit] = {}
        start = 0
        for name, part in parts.items():
            good = [index for index in range(start, start + len(part)) if index in sound]
            start += len(part)
            if not good:
                raise DataError(f"no recording of {name} can be used", hint="see why without data.on_error=skip")
            splits[name] = SpeechSplit([items[each] for each in good], [sound[each] for each in good], classes=classes)
        columns = {
            "id": [id_ for split in splits.values() for id_ in split.ids],
            "split": [name for name, split in splits.items() for _ in split.ids],
            "label": [label for split in splits.values() for label in split.labels],
            "speaker": [speaker for split in splits.values() for speaker in split.speakers],
        }
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        notes += [*clipped(splits), *shared(splits)]
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _settle(self, faults: Sequence[Fault], total: int) -> list[str]:
        """Stop at the faults, all at once, or skip them with a note."""
        if not faults:
            return []
        files = [{"where": str(fault.where), "reason": fault.reason} for fault in faults[:10]]
        listed = [f"{each['where']} {each['reason']}" for each in files]
        more = f"and {len(faults) - len(files)} more" if len(faults) > len(files) else ""
        if self.options.on_error == "skip":
            return [f"skipped {len(faults)} of {total} recordings: {', '.join([*listed, more] if more else listed)}"]
        raise DataError(
            f"{len(faults)} of {total} recordings cannot be used:\n  "
            + "\n  ".join([*listed, more] if more else listed),
            hint="mend or remove them, or skip them with data.on_error=skip",
            details={"total": len(faults), "of": total, "files": files},
        )

    def problem(self, splits: Splits) -> Problem:
        """{"labels": names in the order of outputs, "rate": of most training utterances, Hz, "seconds": {"median",
        "longest"} of the training utterances}.

        Without data (only `data.labels`) it says 16,000 Hz and one second.
        """
        seen = next((part for name in splits.names() if isinstance(part := splits[name], SpeechSplit)), None)
        if seen is None:
            if self.options.labels is None:
                raise DataError("no data and no data.labels: the classes are not known", hint=SUPPORTED)
            seconds = {"median": 1.0, "longest": 1.0}
            return {"labels": list(self.options.labels), "rate": DEFAULT_RATE, "seconds": seconds}
        lengths = [each.seconds for each in seen.sounds]
        seconds = {"median": round(median(lengths), 3), "longest": round(max(lengths), 3)}
        return {"labels": list(seen.classes), "rate": mode(each.rate for each in seen.sounds), "seconds": seconds}

    def evaluator(self, problem: Problem, split: Split) -> ClassificationEvaluator:
        return ClassificationEvaluator(problem["labels"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Utterance:
        """An example from the input port `audio`: what `read_audio` reads.

        Raises:
            InputError: it is none of these, broken, silent, too short or too long.
        """
        if set(inputs) != {"audio"}:
            unknown = next((name for name in inputs if name != "audio"), None)
            raise InputError(
                f"there is no input {unknown!r}" if unknown else "the input 'audio' is missing",
                hint=(did_you_mean(unknown, ["audio"]) if unknown else None) or 'give {"audio": a path}',
            )
        value = inputs["audio"]
        id_ = str(value) if isinstance(value, str | Path) else value.id if isinstance(value, Utterance) else ""
        try:
            samples, rate = read_audio(value, longest=self.options.max_seconds)
            check_samples(samples, rate, shortest=self.options.min_seconds)
        except AudioError as error:
            raise InputError(f"{id_ or 'audio'} {error}") from error
        return Utterance(samples, rate, id=id_)

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        """The most probable class; probabilities of all classes where there are at most 20, else of the first five."""
        labels, probabilities = problem["labels"], prediction.probabilities
        best = np.argsort(-probabilities, kind="stable")
        shown = range(len(labels)) if len(labels) <= ALL_SCORES else best[:TOP_SCORES]
        label = labels[prediction.index]
        scores = {labels[index]: float(probabilities[index]) for index in shown}
        return Prediction(prediction=label, scores=scores, outputs={"label": label})


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _classes(listing: Listing, train: Sequence[Item]) -> tuple[str, ...]:
    """The classes of the training data, by number or by name."""
    found = {item.label for item in train}
    empty = [name for split in ("", "train") for name in listing.empty.get(split, ()) if name not in found]
    if empty:
        raise DataError(
            f"{len(empty)} class folders hold no recording: {several(empty)}",
            hint="add recordings to them or remove them",
            details={"classes": empty[:100], "total": len(empty)},
        )
    if len(found) < 2:
        raise DataError(
            f"one class only: every training recording is labelled {next(iter(found), None)!r}",
            hint="a classifier needs two classes or more; data.labels fixes classes that the data lack",
        )
    key = int if all(name.isascii() and name.isdecimal() for name in found) else str
    return tuple(sorted(found, key=lambda name: (key(name), name)))


def _check_known(parts: Mapping[str, Sequence[Item]], classes: Sequence[str], by: str) -> None:
    """Refuse labels that no model of this run could predict."""
    unknown: dict[str, list[str]] = {}
    for split, items in parts.items():
        for item in items:
            if item.label not in classes:
                unknown.setdefault(item.label, []).append(f"first in {split}: {item.where}")
    if unknown:
        listed = [f"{label!r} ({len(found)}, {found[0]})" for label, found in unknown.items()]
        first = next(iter(unknown))
        raise DataError(
            f"{len(unknown)} labels that {by} lack: {several(listed)}",
            hint=did_you_mean(first, classes) or f"known are {several(map(repr, classes))}",
            details=[
                {"label": label, "count": len(found), "near": near(label, classes)} for label, found in unknown.items()
            ],
        )


def _ignored(listing: Listing) -> list[str]:
    if not listing.ignored:
        return []
    kinds = several(f"{kind} ({count})" for kind, count in sorted(listing.ignored.items()))
    return [f"ignored {sum(listing.ignored.values())} files that are no recordings: {kinds}"]


def _single(parts: Mapping[str, Sequence[Item]]) -> list[str]:
    """A note on classes that are heard once: they are trained on, and cannot be judged."""
    counts = Counter(item.label for items in parts.values() for item in items)
    once = [label for label, count in counts.items() if count == 1]
    return [f"{len(once)} classes have one recording only: {several(once)}"] if once else []
