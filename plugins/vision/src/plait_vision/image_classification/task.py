"""What is learned: which class an image shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from plait.checking import data_fingerprint, shared
from plait.classes import Classes, alike, check_known, classes_of, present_class
from plait.errors import DataError, InputError
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait.folders import check_pattern
from plait.listing import Fault, Item, settle
from plait.options import PATH, DataOptions
from plait.sources import input_value, list_source
from plait.splitting import Division, How, limited
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_vision.image_classification.labels import IMAGENET, given_classes
from plait_vision.image_classification.reading import IMAGES, ImageSplit, check_images
from plait_vision.images import MAX_PIXELS, ImageError, ImageExample, read_image

DEFAULT_SIZE = 224  # pixels; what a problem says of images that nobody has seen


class ImageOptions(DataOptions):
    """The recipe's `data` block for image classification."""

    pattern: str | None = None
    """A regular expression for files' paths below the folder (or below its train, valid and test folders), all of it,
    with the group label, and perhaps split, or train, valid, test: "(?P<split>[a-z]+)/(?P<label>[a-z]+)_.*"."""
    split: How = "auto"
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

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern, IMAGES)
        return pattern


class ImageClassification(Task):
    """One class an image. Examples are `ImageExample`, predictions `ClassPrediction`; it knows no model."""

    Options: ClassVar[type[DataOptions]] = ImageOptions

    options: ImageOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read images and labels, check every one, and divide them; for sources see `plait.sources.list_source`.

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
                raise DataError("no data are given", hint=f"data.source: {IMAGES.supported}")
            return Splits(notes=("no data: the classes are given",))
        options = self.options
        listing = list_source(source, media=IMAGES, fields=options.fields, pattern=options.pattern)
        notes = [*listing.notes(), *self._settled(listing.faults, len(listing) + len(listing.faults))]
        if not len(listing):
            described = source if isinstance(source, str | Path) else "the data"
            raise DataError(f"no images in {described}", hint=f"expected {IMAGES.supported}")
        division = Division(
            media=IMAGES,
            how=options.split,
            valid_fraction=options.valid_fraction,
            test_fraction=options.test_fraction,
            seed=self.seed,
            fixed=given is not None,
            single="refuse",
        )
        parts = division.of(listing.parts)
        classes = given or classes_of(listing, parts["train"])
        check_known(parts, classes, media=IMAGES)
        parts = limited(parts, media=IMAGES, most=options.limit, seed=self.seed)
        return self._checked(parts, classes, [*notes, *alike(classes)])

    def _checked(self, parts: Mapping[str, list[Item]], classes: Classes, notes: list[str]) -> Splits:
        items = [item for part in parts.values() for item in part]
        options = self.options
        sound, faults = check_images(items, verify=options.verify, max_pixels=options.max_pixels, cache=options.cache)
        notes += self._settled(faults, len(items))
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
                max_pixels=options.max_pixels,
            )
        if options.verify == "full":
            notes += shared(splits, nouns=IMAGES.nouns, how="byte for byte")
        columns = {
            "id": [id_ for split in splits.values() for id_ in split.ids],
            "split": [name for name, split in splits.items() for _ in split.ids],
            "label": [label for split in splits.values() for label in split.targets],
        }
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _settled(self, faults: Sequence[Fault], total: int) -> list[str]:
        return settle(faults, total=total, on_error=self.options.on_error, nouns="examples")

    def problem(self, splits: Splits) -> Problem:
        """{"labels": names in the order of outputs, "channels": 1 where all training images are grey, else 3,
        "height", "width": medians of the training images, pixels}.

        Without images (only `data.labels`) it says 224 x 224 pixels, 3 channels.
        """
        seen = next((part for name in splits.names() if isinstance(part := splits[name], ImageSplit)), None)
        if seen is None:
            given = given_classes(self.options.labels)
            if given is None:
                raise DataError("no data and no data.labels: the classes are not known", hint=IMAGES.supported)
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
        value: Any = input_value(inputs, IMAGES)
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
        """As `present_class`: the most probable class, and scores."""
        return present_class(prediction, problem["labels"])
