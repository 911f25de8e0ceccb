"""What do the two small networks look like: a perceptron on pixels, and a convolutional network for small images?"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from plait.task import Problem, Split
from plait_vision.image_classification.classifier import ImageClassifier
from plait_vision.image_classification.preparation import NetworkOptions, fit_network_processor
from plait_vision.image_classification.processor import Augment, ImageProcessor

Width = Annotated[int, Field(ge=1)]

_LARGEST = 64  # pixels a side; both networks are for small images, and larger ones are shrunk to it
_SMALLEST_POOLED = 6  # pixels a side: pooling 7x7 helps (MNIST +0.2 % accuracy), pooling 4x4 does not (digits -0.3 %)
_DEEPER_FROM = 16  # pixels a side; see CnnOptions.widths


class MlpOptions(NetworkOptions):
    """The `model` block of vision/mlp."""

    hidden: tuple[Width, ...] = Field(default=(128, 64), min_length=1)
    """Units of each hidden layer."""


class Mlp(ImageClassifier):
    """A multi-layer perceptron on raw pixels with ReLU between its layers. It knows no neighbourhood of pixels.

    On 28x28 grey images and ten classes: 784-128-64-10, 109,386 parameters.
    """

    Options: ClassVar[type[MlpOptions]] = MlpOptions

    options: MlpOptions

    @classmethod
    def fit_processor(cls, *, options: MlpOptions, problem: Problem, train: Split | None, seed: int) -> ImageProcessor:
        return fit_network_processor(options, problem, train, most=_LARGEST)

    @classmethod
    def make_network(cls, options: MlpOptions, processor: ImageProcessor) -> nn.Module:
        height, width = processor.image_size
        units = [processor.channels * height * width, *options.hidden]
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for index, (before, after) in enumerate(pairwise(units)):
            layers[f"hidden{index}"] = nn.Sequential(nn.Linear(before, after), nn.ReLU())
        layers["dropout"] = nn.Dropout(options.dropout or 0.0)
        layers["head"] = nn.Linear(units[-1], len(processor.labels))
        return nn.Sequential(layers)


class CnnOptions(NetworkOptions):
    """The `model` block of vision/cnn."""

    widths: tuple[Width, ...] | None = Field(default=None, min_length=1, max_length=6)
    """Channels of each block; None: 16, 32 and 64, or 24 and 48 where a side is below 16 pixels."""
    augment: Augment = "light"
    """In training: none; light (zoom, shift and turn a little); randaugment (light, and two of RandAugment's)."""


class Cnn(ImageClassifier):
    """A small convolutional network: in each block two 3x3 convolutions with batch norm and ReLU, then 2x2 max-pooling
    as long as the map is at least 8x8; one linear layer on the flattened last map.

    It is for images up to 64x64; larger ones are shrunk unless `image_size` says otherwise.
    """

    Options: ClassVar[type[CnnOptions]] = CnnOptions

    options: CnnOptions

    @classmethod
    def fit_processor(cls, *, options: CnnOptions, problem: Problem, train: Split | None, seed: int) -> ImageProcessor:
        return fit_network_processor(options, problem, train, most=_LARGEST)

    @classmethod
    def make_network(cls, options: CnnOptions, processor: ImageProcessor) -> nn.Module:
        (height, width), channels = processor.image_size, processor.channels
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        widths = options.widths or ((24, 48, 96) if min(height, width) >= _DEEPER_FROM else (24, 48))
        for index, after in enumerate(widths):
            block = [*_convolution(channels, after), *_convolution(after, after)]
            if min(height, width) >= _SMALLEST_POOLED:
                block.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers[f"block{index}"] = nn.Sequential(*block)
            channels = after
        layers["flatten"] = nn.Flatten()
        layers["dropout"] = nn.Dropout(0.2 if options.dropout is None else options.dropout)
        layers["head"] = nn.Linear(channels * height * width, len(processor.labels))
        return nn.Sequential(layers)


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
