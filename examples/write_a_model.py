"""Write a model: a network for images, which Plait then trains, judges, saves and loads like its own.

python examples/write_a_model.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.nn.functional as F
from torch import nn

import plait
from plait.evaluation import ClassPrediction
from plait.model import Batch, NeuralModel, Output
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_registry import ModelSpec
from plait_vision.image_classification.processor import ImageProcessor


class PatchesOptions(ModelOptions):
    width: int = 64
    """Features of a patch."""


class Patches(NeuralModel):
    """2x2 patches, each mixed with its neighbours by a depthwise convolution, then averaged."""

    Options = PatchesOptions
    ProcessorType = ImageProcessor
    spec = ModelSpec(
        name="example/patches", summary="Patches, mixed with their neighbours", target=f"{__name__}:Patches",
        tasks=("vision/image-classification",), trainer="gradient",
    )  # fmt: skip

    def __init__(self, *, options: PatchesOptions, problem: Problem, processor: ImageProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        width = options.width
        self.embed = nn.Conv2d(processor.channels, width, kernel_size=2, stride=2)
        self.mix = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width)
        self.head = nn.Linear(width * 4, len(problem["labels"]))

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> ImageProcessor:
        channels = problem["channels"]
        return ImageProcessor(
            labels=tuple(problem["labels"]), image_size=(8, 8), channels=channels,
            mean=(0.3,) * channels, std=(0.4,) * channels, augment="light",
        )  # fmt: skip

    def forward(self, batch: Batch) -> Output:
        patches = F.gelu(self.embed(batch["image"]))  # [batch, width, 4, 4]
        mixed = F.gelu(patches + self.mix(patches))
        logits = self.head(F.adaptive_avg_pool2d(mixed, 2).flatten(1))
        target = batch.get("label")
        return Output(None if target is None else F.cross_entropy(logits, target), logits)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        return [ClassPrediction(row) for row in output.logits.float().softmax(1).cpu().numpy()]


if __name__ == "__main__":
    with TemporaryDirectory() as directory:
        run = plait.train(
            "vision/image-classification", Patches, "digits", out=Path(directory, "run"),
            trainer={"epochs": 15, "learning_rate": 0.01},
        )  # fmt: skip
        print(f"{run.model}: test accuracy {run.metrics['test']['accuracy']:.3f}")
        judged = plait.evaluate(run, registry=plait.registry(Patches))  # loaded again, from its directory
        print(f"loaded again: {judged.metrics['accuracy']:.3f} on {judged.examples} images of {judged.split}")
