"""What is learned: which class an image shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from plait.data import limit
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait.options import PATH, DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_vision.image_classification.labels import (
    IMAGENET,
    Classes,
    alike,
    check_known,
    classes_of,
    given_classes,
)
from plait_vision.image_classification.listing import Fault, Item, Listing, several
from plait_vision.image_classification.reading import (
    ImageSplit,
    check_images,
    data_fingerprint,
    partition,
    shared,
)
from plait_vision.image_classification.sources import SUPPORTED, list_source
from plait_vision.images import MAX_PIXELS, ImageError, ImageExample, read_image

ALL_SCORES = 20
TOP_SCORES = 5
DEFAULT_SIZE = 224  # pixels; what a problem says of images that nobody has seen


class ImageOptions(DataOptions):
    """The recipe's `data` block for image classification."""

    split: Literal["auto", "given", "random", "stratified"] = "auto"
    """auto: splits that the data name, else stratified; given: only these, none is carved; random, stratified: all data
    are divided anew by the seed, whatever they name."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part of the training images that becomes `valid` where the data name none; 0: no valid."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of all images that becomes `test` where the data name no splits; 0: no test."""
    labels: list[str] | str | None = Field(default=None, json_schema_extra=PATH)
    """The classes in the order of the model's outputs: a list, a text file with a name a line, or "imagenet-1k"."""
    verify: Literal["full", "header"] = "full"
    """Before training, decode every image, or read only its header (a truncated file is then found on use)."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=2 * MAX_PIXELS)
    """Larger images count as decompression bombs, pixels; PIL itself refuses more than twice the default."""
    cache: bool | Literal["auto"] = "auto"
    """Keep decoded images in memory; auto: where they take less than 512 MiB."""


class ImageClassification(Task):
    """One class an image. Examples are `ImageExample`, predictions `ClassPrediction`; it knows no model."""

    Options: ClassVar[type[DataOptions]] = ImageOptions

    options: ImageOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read images and labels, check every one, and divide them. See `list_source` for what a source may be.

        Raises:
            DataError: names the files and what to do: unreadable or missing data, broken images (all at once), missing
                labels, one class only, classes without images, labels that training lacks.
        """
        if problem is None:
            given = given_classes(self.options.labels)
        else:  # a file of labels may be gone by now; only names of ours bring aliases
            named = given_classes(self.options.labels) if self.options.labels == IMAGENET else None
            given = Classes(tuple(problem["labels"]), "the trained run", named.aliases if named else {})
        if source is None:
            if given is None:
                raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
            return Splits(notes=("no data: the classes are given",))
        listing = list_source(source, fields=self.options.fields)
        notes = [*_ignored(listing), *self._settle(listing.faults, _count(listing.parts) + len(listing.faults))]
        if not _count(listing.parts):
            raise DataError(f"no images in {_described(source)}", hint=f"expected {SUPPORTED}")
        parts = partition(
            listing.parts,
            how=self.options.split,
            valid_fraction=self.options.valid_fraction,
            test_fraction=self.options.test_fraction,
            seed=self.seed,
            fixed=given is not None,
        )
        classes = given or classes_of(listing, parts["train"])
        check_known(parts, classes)
        notes += [note] if (note := alike(classes)) else []
        return self._checked(self._limited(parts), classes, notes)

    def _limited(self, parts: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
        most = self.options.limit
        chosen = {
            split: limit([item.label for item in items], most=most, seed=self.seed) for split, items in parts.items()
        }
        return {split: [items[index] for index in chosen[split]] for split, items in parts.items()}

    def _checked(self, parts: Mapping[str, list[Item]], classes: Classes, notes: list[str]) -> Splits:
        items = [item for part in parts.values() for item in part]
        sound, faults = check_images(
            items, verify=self.options.verify, max_pixels=self.options.max_pixels, cache=self.options.cache
        )
        notes += self._settle(faults, len(items))
        splits: dict[str, ImageSplit] = {}
        start = 0
        for name, part in parts.items():
            good = [index for index in range(start, start + len(part)) if index in sound]
            start += len(part)
            if part and not good:
                raise DataError(f"no image of {name} can be read", hint="see the faults without data.on_error=skip")
            splits[name] = ImageSplit(
                [items[index] for index in good],
                [sound[index] for index in good],
                classes=classes,
                max_pixels=self.options.max_pixels,
            )
        if self.options.verify == "full":
            notes += shared(splits)
        index = pa.table(
            {
                "id": pa.array([id_ for split in splits.values() for id_ in split.ids], pa.string()),
                "split": pa.array([name for name, split in splits.items() for _ in split.ids], pa.string()),
                "label": pa.array([label for split in splits.values() for label in split.labels], pa.string()),
            }
        )
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _settle(self, faults: Sequence[Fault], total: int) -> list[str]:
        """Stop at the faults, all at once, or skip them with a note."""
        if not faults:
            return []
        files = [{"where": str(fault.where), "reason": fault.reason} for fault in faults[:10]]
        listed = [f"{each['where']} {each['reason']}" for each in files]
        more = f"\n  and {len(faults) - len(files)} more" if len(faults) > len(files) else ""
        if self.options.on_error == "skip":
            return [f"skipped {len(faults)} of {total} examples: {several(listed)}" + more.replace("\n ", ",")]
        raise DataError(
            f"{len(faults)} of {total} examples cannot be used:\n  " + "\n  ".join(listed) + more,
            hint="mend or remove them, or skip them with data.on_error=skip",
            details={"total": len(faults), "of": total, "files": files},
        )

    def problem(self, splits: Splits) -> Problem:
        """{"labels": names in the order of outputs, "channels": 1 where all training images are grey, else 3,
        "height", "width": medians of the training images, pixels}.

        Without images (only `data.labels`) it says 224 x 224 pixels, 3 channels.
        """
        seen = next((part for name in splits.names() if isinstance(part := splits[name], ImageSplit)), None)
        if seen is None:
            given = given_classes(self.options.labels)
            if given is None:
                raise DataError("no data and no data.labels: the classes are not known", hint=SUPPORTED)
            return {"labels": list(given.names), "channels": 3, "height": DEFAULT_SIZE, "width": DEFAULT_SIZE}
        return {
            "labels": list(seen.classes),
            "channels": int(seen.shapes[:, 2].max()),
            "height": median_low(seen.shapes[:, 0].tolist()),
            "width": median_low(seen.shapes[:, 1].tolist()),
        }

    def evaluator(self, problem: Problem, split: Split) -> ClassificationEvaluator:
        return ClassificationEvaluator(problem["labels"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> ImageExample:
        """An example from the input port `image`: a path, a file's bytes, a PIL image, an array, or an ImageExample.

        Raises:
            InputError: it is none of these, or broken.
        """
        if set(inputs) != {"image"}:
            unknown = next((name for name in inputs if name != "image"), None)
            raise InputError(
                f"there is no input {unknown!r}" if unknown else "the input 'image' is missing",
                hint=(did_you_mean(unknown, ["image"]) if unknown else None) or 'give {"image": a path}',
            )
        value: Any = inputs["image"]
        id_ = ""
        if isinstance(value, ImageExample):
            value, id_ = value.image, value.id
        elif isinstance(value, str | Path):
            id_ = str(value)
        try:
            return ImageExample(read_image(value, max_pixels=self.options.max_pixels), id=id_)
        except ImageError as error:
            raise InputError(f"{id_ or 'image'} {error}") from error

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        """The most probable class; probabilities of all classes where there are at most 20, else of the first five."""
        labels, probabilities = problem["labels"], prediction.probabilities
        best = np.argsort(-probabilities, kind="stable")
        shown = range(len(labels)) if len(labels) <= ALL_SCORES else best[:TOP_SCORES]
        label = labels[prediction.index]
        scores = {labels[index]: float(probabilities[index]) for index in shown}
        return Prediction(prediction=label, scores=scores, outputs={"label": label})


def _count(parts: Mapping[str, Sequence[Item]]) -> int:
    return sum(map(len, parts.values()))


def _ignored(listing: Listing) -> list[str]:
    notes = []
    if total := sum(listing.ignored.values()):
        kinds = several(f"{kind} ({count})" for kind, count in sorted(listing.ignored.items()))
        notes.append(f"ignored {total} files that are no images: {kinds}")
    for split in ("valid", "test"):
        if empty := listing.empty.get(split):
            notes.append(f"{split} has no image of {several(empty)}")
    return notes


def _described(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "the data"
