"""How far do class means on raw pixels get? The baseline of every report, in closed form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import RecipeError
from plait.evaluation import ClassPrediction
from plait.model import IterativeModel, Key, Progress, State
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_vision.image_classification.preparation import ImageModelOptions, side_pair
from plait_vision.image_classification.processor import ImageProcessor
from plait_vision.images import ImageExample

_MOST_VALUES = 1024  # of an image: the scatter matrix has as many rows and columns, 8 MiB of float64
_LARGEST = 32  # pixels a side
_AT_ONCE = 256  # images


class NearestCentroid(IterativeModel):
    """The class whose mean image is nearest, in squared Euclidean distance on pixels in 0..1. It has no loss.

    Images are shrunk to at most 32x32 (grey) or 18x18 (RGB). Probabilities are softmax(-distance² / temperature). With
    classes of one spherical Gaussian the temperature would be twice the variance of a pixel, but pixels depend on each
    other, which makes that far too sure of itself. So the temperature is 2 tr(S²) / tr(S) with S the pooled covariance
    within classes: twice the mean of its eigenvalues, each weighted by itself. On `digits` that takes the log-loss from
    0.98 to 0.33 nats.
    """

    Options: ClassVar[type[ImageModelOptions]] = ImageModelOptions

    options: ImageModelOptions

    def __init__(self, *, options: ImageModelOptions, problem: Problem, processor: ImageProcessor) -> None:
        self.options = options
        self.problem = problem
        self.processor = processor
        self.centroids: Tensor | None = None  # float64 [classes, values]; infinite where a class had no example
        self.temperature: Tensor | None = None  # float64 []

    @classmethod
    def create(cls, *, options: ImageModelOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        if options.weights is not None or options.from_ is not None:
            raise RecipeError(f"{options.name} is fitted in closed form: there is nothing to start from")
        channels = options.channels or int(problem["channels"])
        most = min(_LARGEST, int((_MOST_VALUES / channels) ** 0.5))
        size = (min(most, problem["height"]), min(most, problem["width"]))
        processor = ImageProcessor(
            labels=tuple(problem["labels"]),
            image_size=size if options.image_size is None else side_pair(options.image_size),
            channels=channels,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            interpolation=options.interpolation or "bilinear",
            crop=options.crop or "squash",
        )
        return cls(options=options, problem=problem, processor=processor)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """The only step: for each class the number of examples and the sum of their values, and of all examples the sum
        of outer products, are what means and the pooled covariance need."""
        classes, (height, width) = len(self.processor.labels), self.processor.image_size
        values = self.processor.channels * height * width
        counts = torch.zeros(classes, dtype=torch.float64)
        sums = torch.zeros(classes, values, dtype=torch.float64)
        products = torch.zeros(values, values, dtype=torch.float64)
        for pixels, targets in self._chunks(data):
            counts += torch.bincount(targets, minlength=classes)
            sums.index_add_(0, targets, pixels)
            products += pixels.T @ pixels
        counts, sums, products = (engine.reduce(each).cpu() for each in (counts, sums, products))
        means = sums / counts.clamp_min(1)[:, None]
        covariance = (products - sums.T @ means) / counts.sum().clamp_min(1)
        spread = covariance.trace().clamp_min(1e-12)  # 0 where every class is one image, repeated
        temperature = (2 * covariance.square().sum() / spread).clamp_min(1e-6)
        metrics = {"within_class_variance": float(spread), "temperature": float(temperature)}
        tensors = {"counts": counts, "means": means, "temperature": temperature}
        return State(tensors), Progress(metrics, converged=True)

    def finish(self, state: State) -> None:
        seen = state.tensors["counts"] > 0
        self.centroids = torch.where(seen[:, None], state.tensors["means"], torch.inf)
        self.temperature = state.tensors["temperature"]

    def predict(self, examples: Sequence[ImageExample]) -> list[ClassPrediction]:
        if self.centroids is None or self.temperature is None:
            raise RuntimeError("the class means are not fitted yet: finish() or load() comes first")
        pixels = self._pixels(examples)
        # not by matrix products, which lose digits and cannot hold the infinity of a class without examples
        distances = torch.cdist(pixels, self.centroids, compute_mode="donot_use_mm_for_euclid_dist").square()
        rows = torch.softmax(-distances / self.temperature, dim=-1).numpy()
        return [ClassPrediction(probabilities=row) for row in rows]

    def save(self, directory: Path) -> None:
        if self.centroids is None or self.temperature is None:
            raise RuntimeError("the class means are not fitted yet: finish() or load() comes first")
        tensors = {"centroids": self.centroids, "temperature": self.temperature}
        save_tensors(tensors, directory / "model.safetensors")
        text = json.dumps(self.processor.as_json(), indent=1, ensure_ascii=False)
        (directory / "processor.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: ImageModelOptions, problem: Problem) -> Self:
        state: dict[str, Any] = json.loads((directory / "processor.json").read_text(encoding="utf-8"))
        model = cls(options=options, problem=problem, processor=ImageProcessor.from_json(state))
        tensors = load_tensors(directory / "model.safetensors")
        model.centroids, model.temperature = tensors["centroids"], tensors["temperature"]
        return model

    def _chunks(self, data: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Values float64 [batch, values] and targets [batch], a few hundred images at a time."""
        for first in range(0, len(data), _AT_ONCE):
            examples = [data[index] for index in range(first, min(first + _AT_ONCE, len(data)))]
            keys = [Key(0, 0, first + index) for index in range(len(examples))]
            batch = self.processor.collate(examples, keys, training=False)
            yield batch["image"].flatten(1).double(), batch["label"]

    def _pixels(self, examples: Sequence[ImageExample]) -> Tensor:
        keys = [Key(0, 0, index) for index in range(len(examples))]
        return self.processor.collate(examples, keys, training=False)["image"].flatten(1).double()
