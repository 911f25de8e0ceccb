"""What do the two small networks look like: a perceptron on pixels, and a convolutional network for small images?"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field
from torch import nn

from plait.evaluation import ClassPrediction
from plait.model import Batch, Model, NeuralModel, Output
from plait.task import Problem, Split
from plait_vision.image_classification.given_weights import load_given, take_over, without_sources
from plait_vision.image_classification.objective import class_predictions, classification_loss, classify
from plait_vision.image_classification.preparation import (
    NetworkOptions,
    fit_network_processor,
    take_network_processor,
)
from plait_vision.image_classification.processor import Augment, ImageProcessor

Width = Annotated[int, Field(ge=1)]

_LARGEST = 64  # pixels a side; both networks are for small images, and larger ones are shrunk to it
_SMALLEST_POOLED = 6  # pixels a side: pooling 7x7 helps (MNIST +0.2 % accuracy), pooling 4x4 does not (digits -0.3 %)
_DEEPER_FROM = 16  # pixels a side; see CnnOptions.widths


class MlpOptions(NetworkOptions):
    """The `model` block of vision/mlp."""

    hidden: tuple[Width, ...] = Field(default=(128, 64), min_length=1)
    """Units of each hidden layer."""


class Mlp(NeuralModel):
    """A multi-layer perceptron on raw pixels with ReLU between its layers. It knows no neighbourhood of pixels.

    On 28x28 grey images and ten classes: 784-128-64-10, 109,386 parameters.
    """

    Options: ClassVar[type[MlpOptions]] = MlpOptions
    ProcessorType = ImageProcessor

    options: MlpOptions
    processor: ImageProcessor

    def __init__(self, *, options: MlpOptions, problem: Problem, processor: ImageProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        height, width = processor.image_size
        units = [processor.channels * height * width, *options.hidden]
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for index, (before, after) in enumerate(pairwise(units)):
            layers[f"hidden{index}"] = nn.Sequential(nn.Linear(before, after), nn.ReLU())
        layers["dropout"] = nn.Dropout(options.dropout or 0.0)
        layers["head"] = nn.Linear(units[-1], len(problem["labels"]))
        self.network = nn.Sequential(layers)
        self.loss = classification_loss(options, processor)
        self.notes: list[str] = []

    @classmethod
    def fit_processor(cls, *, options: MlpOptions, problem: Problem, train: Split | None, seed: int) -> ImageProcessor:
        return fit_network_processor(options, problem, train, most=_LARGEST)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: MlpOptions, problem: Problem, train: Split | None
    ) -> ImageProcessor:
        return take_network_processor(processor, options, problem, train)

    @classmethod
    def build(cls, *, options: MlpOptions, problem: Problem, processor: ImageProcessor, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        if options.weights is not None:
            model.notes += load_given(model.network, options.weights, head=("head",))
        return model

    @classmethod
    def load(cls, directory: Path, *, options: MlpOptions, problem: Problem) -> Self:
        return super().load(directory, options=without_sources(options), problem=problem)

    def forward(self, batch: Batch) -> Output:
        return classify(self.network, self.loss, batch)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        return class_predictions(output.logits)

    def start_from(self, other: Model) -> list[str]:
        return take_over(self, other, head=("head",))


class CnnOptions(NetworkOptions):
    """The `model` block of vision/cnn."""

    widths: tuple[Width, ...] | None = Field(default=None, min_length=1, max_length=6)
    """Channels of each block; None: 16, 32 and 64, or 24 and 48 where a side is below 16 pixels."""
    augment: Augment = "light"
    """In training: none; light (zoom, shift and turn a little); randaugment (light, and two of RandAugment's)."""


class Cnn(NeuralModel):
    """A small convolutional network: in each block two 3x3 convolutions with batch norm and ReLU, then 2x2 max-pooling
    as long as the map is at least 6x6; one linear layer on the flattened last map.

    It is for images up to 64x64; larger ones are shrunk unless `image_size` says otherwise.
    """

    Options: ClassVar[type[CnnOptions]] = CnnOptions
    ProcessorType = ImageProcessor

    options: CnnOptions
    processor: ImageProcessor

    def __init__(self, *, options: CnnOptions, problem: Problem, processor: ImageProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        (height, width), channels = processor.image_size, processor.channels
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        widths = options.widths or ((16, 32, 64) if min(height, width) >= _DEEPER_FROM else (24, 48))
        for index, after in enumerate(widths):
            block = [*_convolution(channels, after), *_convolution(after, after)]
            if min(height, width) >= _SMALLEST_POOLED:
                block.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers[f"block{index}"] = nn.Sequential(*block)
            channels = after
        layers["flatten"] = nn.Flatten()
        layers["dropout"] = nn.Dropout(0.2 if options.dropout is None else options.dropout)
        layers["head"] = nn.Linear(channels * height * width, len(problem["labels"]))
        self.network = nn.Sequential(layers)
        self.loss = classification_loss(options, processor)
        self.notes: list[str] = []

    @classmethod
    def fit_processor(cls, *, options: CnnOptions, problem: Problem, train: Split | None, seed: int) -> ImageProcessor:
        return fit_network_processor(options, problem, train, most=_LARGEST)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: CnnOptions, problem: Problem, train: Split | None
    ) -> ImageProcessor:
        return take_network_processor(processor, options, problem, train)

    @classmethod
    def build(cls, *, options: CnnOptions, problem: Problem, processor: ImageProcessor, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        if options.weights is not None:
            model.notes += load_given(model.network, options.weights, head=("head",))
        return model

    @classmethod
    def load(cls, directory: Path, *, options: CnnOptions, problem: Problem) -> Self:
        return super().load(directory, options=without_sources(options), problem=problem)

    def forward(self, batch: Batch) -> Output:
        return classify(self.network, self.loss, batch)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        return class_predictions(output.logits)

    def start_from(self, other: Model) -> list[str]:
        return take_over(self, other, head=("head",))


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
