"""What do all networks that classify images have in common? Everything but their layers."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from plait.evaluation import ClassPrediction
from plait.model import Batch, Model, NeuralModel, Output
from plait.task import Problem, Split
from plait_vision.image_classification.given_weights import load_given, take_over, without_sources
from plait_vision.image_classification.objective import class_predictions, classification_loss, classify
from plait_vision.image_classification.preparation import take_network_processor
from plait_vision.image_classification.processor import ImageProcessor


class ImageClassifier(NeuralModel):
    """A network from images to classes, with its loss, its given weights and its decoding. It does not know its layers.

    A subclass gives `Options`, `fit_processor`, `make_network` and, where it is not called "head", `head`.
    """

    ProcessorType: ClassVar[type[ImageProcessor]] = ImageProcessor

    processor: ImageProcessor

    def __init__(self, *, options: Any, problem: Problem, processor: ImageProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.network: Any = self.make_network(options, processor)  # timm's networks have attributes of their own
        self.loss = classification_loss(options, processor)
        self.notes: list[str] = []

    @classmethod
    @abstractmethod
    def make_network(cls, options: Any, processor: ImageProcessor) -> nn.Module:
        """Layers from [batch, channels, height, width] to logits [batch, classes]."""

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the classifier's modules in `network`: what does not fit other labels."""
        return ("head",)

    @classmethod
    def take_processor(cls, processor: Any, *, options: Any, problem: Problem, train: Split | None) -> ImageProcessor:
        return take_network_processor(processor, options, problem, train)

    @classmethod
    def build(cls, *, options: Any, problem: Problem, processor: ImageProcessor, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        if options.weights is not None:
            model.notes += load_given(model.network, options.weights, head=model.head)
        return model

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        return super().load(directory, options=without_sources(options), problem=problem)

    def forward(self, batch: Batch) -> Output:
        return classify(self.network, self.loss, batch)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        return class_predictions(output.logits)

    def start_from(self, other: Model) -> list[str]:
        return take_over(self, other, head=self.head)
