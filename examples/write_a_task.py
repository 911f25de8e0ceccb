"""Write a task: is a handwritten digit even? Any model of images learns it.

python examples/write_a_task.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sklearn.datasets import load_digits

import plait
from plait.data import carve, fingerprint
from plait.errors import InputError
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_registry import Metric, TaskSpec
from plait_vision.images import ImageError, ImageExample, read_image


class EvenDigits(Task):
    """Images [8, 8] with numbers 0 to 9 become examples labelled "even" or "odd"."""

    spec = TaskSpec(
        name="example/even-digits", summary="Is a handwritten digit even?", target=f"{__name__}:EvenDigits",
        accepts={"image": "image"}, returns={"label": "label"}, primary_metric=Metric("accuracy", True),
        models=("vision/cnn", "vision/nearest-centroid"), baselines=("vision/nearest-centroid",),
    )  # fmt: skip

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        examples = [
            ImageExample(read_image(image), label="odd" if digit % 2 else "even", id=str(index))
            for index, (image, digit) in enumerate(source)
        ]
        rest, test = carve([example.label for example in examples], fraction=0.2, seed=self.seed)
        return Splits(
            train=[examples[index] for index in rest],
            test=[examples[index] for index in test],
            fingerprint=fingerprint(part for each in examples for part in (each.image.tobytes(), each.label)),
        )

    def problem(self, splits: Splits) -> Problem:
        return {"labels": ["even", "odd"], "channels": 1, "height": 8, "width": 8}

    def evaluator(self, problem: Problem, split: Split) -> ClassificationEvaluator:
        return ClassificationEvaluator(problem["labels"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> ImageExample:
        try:
            return ImageExample(read_image(inputs["image"]))
        except ImageError as error:
            raise InputError(str(error)) from error

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        label = problem["labels"][prediction.index]
        return Prediction(label, outputs={"label": label})


if __name__ == "__main__":
    digits = load_digits()
    pairs = list(zip((digits.images * (255 / 16)).astype("uint8"), map(int, digits.target), strict=True))
    with TemporaryDirectory() as directory:
        run = plait.train(EvenDigits, "vision/cnn", pairs, out=Path(directory, "run"), trainer={"epochs": 5})
        print(f"vision/cnn: test accuracy {run.metrics['test']['accuracy']:.3f}")
        for name, splits in run.info["baselines"].items():
            print(f"{name}: test accuracy {splits['test']['accuracy']:.3f}")
        predict = plait.load(run.path, plait.registry(EvenDigits))
        print(f"a {pairs[7][1]} is {predict(pairs[7][0]).prediction}")
