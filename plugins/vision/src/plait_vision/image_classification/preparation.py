"""Which preprocessing do a model's options and its training images ask for?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from plait.errors import RecipeError
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_vision.image_classification.processor import Augment, Crop, ImageProcessor, Interpolation
from plait_vision.images import ImageExample

Side = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0)]

_SAMPLE = 256  # images: the standard error of a mean over 256 of them is below 0.02 of 0..1
_SMALLEST_STD = 1 / 255  # images of one colour


class ImageModelOptions(ModelOptions):
    """The `model` block of every image classifier: its preprocessing."""

    image_size: Side | tuple[Side, Side] | None = None
    """Side, or [height, width], of the network's input; None: from the training images or the given weights."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; None: as the training images or the given weights have it."""
    crop: Crop | None = None
    """squash changes the aspect ratio, center cuts ends off, pad adds borders; None: squash, or by given weights."""
    interpolation: Interpolation | None = None
    """Of the resizing, always antialiased; None: bilinear, or by given weights."""


class NetworkOptions(ImageModelOptions):
    """The `model` block of every image classifier that is trained by gradients."""

    mean: float | tuple[float, ...] | None = None
    """Of all or each channel, of values in 0..1; None: measured on the training images, or by given weights."""
    std: Positive | tuple[Positive, ...] | None = None
    """Standard deviation of all or each channel; None: as for the mean."""
    augment: Augment = "none"
    """In training: none; light (zoom, shift and turn a little); randaugment (light, and two of RandAugment's)."""
    flip: bool = False
    """Augmentation also mirrors every second image; not for digits, text or anything else with a handedness."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that training spreads over all classes. Evaluation is without it."""
    class_weights: Literal["none", "balanced"] | tuple[Positive, ...] = "none"
    """Weight of each class in the training loss: balanced (examples / (classes * the class's examples)), or a list in
    the order of the labels. Evaluation is without it."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Part of the activations that training drops before the last layer; None: the network's default."""

    @model_validator(mode="after")
    def _flip_needs_augment(self) -> Self:
        if self.flip and self.augment == "none":
            raise ValueError("flip=true is part of an augmentation: set augment to light or randaugment too")
        return self


def measure_pixels(train: Split | None, *, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for each channel, of values in 0..1; images count the same whatever their size.

    Up to 256 images are looked at, evenly spaced over the training set, so that classes in a row are all seen.

    Raises:
        RecipeError: there is no training image.
    """
    if train is None or len(train) == 0:
        raise RecipeError(
            "model.mean and model.std are measured on training images, and there are none",
            hint="set both (0.5 fits most), or give training data",
        )
    positions = np.unique(np.linspace(0, len(train) - 1, num=min(len(train), _SAMPLE)).round().astype(int))
    moments = np.mean([_moments(train[int(position)], channels) for position in positions], axis=0)
    std = np.sqrt(np.maximum(moments[1] - moments[0] ** 2, _SMALLEST_STD**2))
    return tuple(np.round(moments[0], 6).tolist()), tuple(np.round(std, 6).tolist())


def _moments(example: ImageExample, channels: int) -> np.ndarray:
    """Means of values and of squares, [2, channels], of one image in its own size."""
    height, width = example.image.shape[:2]
    plain = ImageProcessor(
        labels=(), image_size=(height, width), channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    pixels = plain.collate([ImageExample(image=example.image)], [], training=False)["image"][0].double()
    return np.stack([pixels.mean(dim=(1, 2)).numpy(), pixels.square().mean(dim=(1, 2)).numpy()])


def side_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of an `image_size` option."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def each_channel(name: str, value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    """A `mean` or `std` option for each channel.

    Raises:
        RecipeError: it has another number of values.
    """
    values = (float(value),) * channels if isinstance(value, int | float) else tuple(float(each) for each in value)
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise RecipeError(
            f"model.{name} has {len(values)} values, and the network's input has {channels} channels",
            hint=f"give one value or {channels}, or set model.channels",
        )
    return values


def fit_network_processor(
    options: NetworkOptions, problem: Problem, train: Split | None, *, most: int, step: int = 1
) -> ImageProcessor:
    """The preprocessing of a network with random weights: what the options leave open is as the training images are.

    Args:
        problem: "labels", and of the training images "channels" and the median "height" and "width", pixels.
        most: the largest side that the training images may ask for.
        step: sides that nobody asked for are rounded up to a multiple of it.
    """
    channels = options.channels or int(problem["channels"])
    size = options.image_size or tuple(min(most, -(-problem[side] // step) * step) for side in ("height", "width"))
    mean, std = options.mean, options.std
    if mean is None or std is None:
        measured = measure_pixels(train, channels=channels)
        mean, std = measured[0] if mean is None else mean, measured[1] if std is None else std
    return ImageProcessor(
        labels=tuple(problem["labels"]),
        image_size=side_pair(size),
        channels=channels,
        mean=each_channel("mean", mean, channels),
        std=each_channel("std", std, channels),
        interpolation=options.interpolation or "bilinear",
        crop=options.crop or "squash",
        augment=options.augment,
        flip=options.flip,
        class_counts=count_classes(options, problem, train),
        origin="model.mean and model.std" if None not in (options.mean, options.std) else "the training images",
    )


def take_network_processor(
    earlier: Any, options: NetworkOptions, problem: Problem, train: Split | None
) -> ImageProcessor:
    """The preprocessing of the run that a network starts from, for this problem's labels; what the options name wins.

    Raises:
        RecipeError: the run's model takes no images.
    """
    if not isinstance(earlier, ImageProcessor):
        raise RecipeError(f"model.from: the run's preprocessing is a {type(earlier).__name__}, not one of images")
    channels = options.channels or earlier.channels
    return replace(
        earlier,
        labels=tuple(problem["labels"]),
        image_size=earlier.image_size if options.image_size is None else side_pair(options.image_size),
        channels=channels,
        mean=each_channel("mean", earlier.mean if options.mean is None else options.mean, channels),
        std=each_channel("std", earlier.std if options.std is None else options.std, channels),
        interpolation=options.interpolation or earlier.interpolation,
        crop=options.crop or earlier.crop,
        augment=options.augment,
        flip=options.flip,
        class_counts=count_classes(options, problem, train),
    )


def count_classes(options: NetworkOptions, problem: Problem, train: Split | None) -> tuple[int, ...]:
    """Training examples of each class, where the options ask for balanced weights; else ()."""
    if options.class_weights != "balanced" or train is None:
        return ()
    labels = getattr(train, "labels", None)  # our task's splits know them without decoding an image
    if labels is None:
        labels = [train[index].label for index in range(len(train))]
    counts = Counter(labels)
    return tuple(counts[label] for label in problem["labels"])
