"""Which preprocessing do a model's options and its training images ask for?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

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
    """squash changes the aspect ratio, center cuts ends off, pad adds borders; None: squash, or as given weights had it."""
    interpolation: Interpolation | None = None
    """Of the resizing, always antialiased; None: bilinear, or as given weights had it."""


class NetworkOptions(ImageModelOptions):
    """The `model` block of every image classifier that is trained by gradients."""

    mean: float | tuple[float, ...] | None = None
    """Of all or each channel, of values in 0..1; None: measured on the training images, or as given weights had it."""
    std: Positive | tuple[Positive, ...] | None = None
    """Standard deviation of all or each channel; None: as for the mean."""
    augment: Augment = "none"
    """In training: none; light (zoom and shift by up to a tenth); randaugment (light, and two of RandAugment's)."""
    flip: bool = False
    """Augmentation also mirrors every second image; not for digits, text or anything else with a handedness."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that training spreads over all classes. Evaluation is without it."""
    class_weights: Literal["none", "balanced"] | tuple[Positive, ...] = "none"
    """Weight of each class in the training loss: balanced (examples / (classes * the class's examples)), or a list in the
    order of the labels. Evaluation is without it."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Part of the activations that training drops before the last layer; None: the network's default."""

    @model_validator(mode="after")
    def _flip_needs_augment(self) -> Self:
        if self.flip and self.augment == "none":
            raise ValueError("flip=true is part of an augmentation: set augment to light or randaugment too")
        return self


@dataclass(frozen=True, slots=True)
class Measured:
    """What a sample of a training set looks like.

    Args:
        height, width: medians, in pixels.
        channels: 3 where any image has colour.
        mean, std: for each of `channels`, of values in 0..1; images count the same whatever their size.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def measure(train: Split | None, *, channels: int | None = None) -> Measured:
    """Look at up to 256 images, evenly spaced over the training set.

    Args:
        channels: measure as grey (1) or RGB (3); None: as the images are.

    Raises:
        RecipeError: there is no training image.
    """
    if train is None or len(train) == 0:
        raise RecipeError(
            "there is no training image to measure size, mean and standard deviation on",
            hint="give training data, or set model.image_size, model.channels, model.mean and model.std",
        )
    positions = np.unique(np.linspace(0, len(train) - 1, num=min(len(train), _SAMPLE)).round().astype(int))
    examples: list[ImageExample] = [train[int(position)] for position in positions]
    sizes = np.median([example.image.shape[:2] for example in examples], axis=0)
    channels = channels or max(example.image.shape[2] for example in examples)
    moments = np.mean([_moments(example, channels) for example in examples], axis=0)
    std = np.sqrt(np.maximum(moments[1] - moments[0] ** 2, _SMALLEST_STD**2))
    return Measured(
        height=round(float(sizes[0])),
        width=round(float(sizes[1])),
        channels=channels,
        mean=tuple(round(float(value), 6) for value in moments[0]),
        std=tuple(round(float(value), 6) for value in std),
    )


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
    """The preprocessing of a network with random weights: what the options leave open is measured on `train`.

    Args:
        most: the largest side that the training images' median size may ask for.
        step: sides that nobody asked for are rounded up to a multiple of it.
    """
    channels = options.channels
    given = channels is not None and None not in (options.image_size, options.mean, options.std)
    seen = None if given else measure(train, channels=channels)
    channels = channels or (seen.channels if seen else 3)
    if options.image_size is not None or seen is None:
        size = side_pair(options.image_size or most)
    else:
        size = (_fitting_side(seen.height, most, step), _fitting_side(seen.width, most, step))
    mean = options.mean if options.mean is not None or seen is None else seen.mean
    std = options.std if options.std is not None or seen is None else seen.std
    assert mean is not None and std is not None  # given, or seen
    return ImageProcessor(
        labels=tuple(problem["labels"]),
        image_size=size,
        channels=channels,
        mean=each_channel("mean", mean, channels),
        std=each_channel("std", std, channels),
        interpolation=options.interpolation or "bilinear",
        crop=options.crop or "squash",
        augment=options.augment,
        flip=options.flip,
        origin="the recipe" if options.mean is not None and options.std is not None else "the training images",
    )


def _fitting_side(side: int, most: int, step: int) -> int:
    return min(most, max(step, -(-side // step) * step))
