"""Small tasks and models that tests of the core train in milliseconds: points on a plane, labelled by their angle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from plait.data import carve, fingerprint
from plait.errors import InputError
from plait.evaluation import ClassificationEvaluator, ClassPrediction, Evaluator
from plait.model import Batch, IterativeModel, Key, Model, NeuralModel, Output, Processor, Progress, State
from plait.options import ModelOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait.weights import load_tensors, save_tensors
from plait_registry import Metric, ModelSpec, TaskSpec


@dataclass(frozen=True, slots=True)
class Point:
    x: tuple[float, ...]
    label: str | None = None
    id: str = ""


def points(count: int = 96, seed: int = 0) -> list[Point]:
    """Labelled points: which third of the circle they are in."""
    values = np.random.default_rng(seed).normal(size=(count, 4))
    angle = np.arctan2(values[:, 0], values[:, 1])
    names = np.array(["a", "b", "c"])[np.digitize(angle, [-1.0, 1.0])]
    return [
        Point(tuple(map(float, row)), str(name), f"p{i}")
        for i, (row, name) in enumerate(zip(values, names, strict=True))
    ]


class Points(Task):
    spec = TaskSpec(
        name="toy/points", summary="Which third of the circle.", target="tests.toys:Points",
        accepts={"point": "vector"}, returns={"label": "label"}, primary_metric=Metric("accuracy", True),
        models=("toy/net", "toy/means"), default_model="toy/net",
    )  # fmt: skip

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        if isinstance(source, Mapping):
            parts = {name: list(part) for name, part in source.items()}
        else:
            everything = list(source)
            rest, valid = carve(len(everything), fraction=0.25, seed=self.seed)
            parts = {"train": [everything[i] for i in rest], "valid": [everything[i] for i in valid]}
        return Splits(**parts, fingerprint=fingerprint(repr(each) for part in parts.values() for each in part))

    def problem(self, splits: Splits) -> Problem:
        return {"labels": ["a", "b", "c"]}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return ClassificationEvaluator(problem["labels"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Point:
        try:
            return Point(tuple(map(float, inputs["point"])))
        except (TypeError, ValueError) as error:
            raise InputError(f"a point is four numbers, not {inputs['point']!r}") from error

    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        label = problem["labels"][prediction.index]
        return Prediction(prediction=label, outputs={"label": label})


class PointProcessor(Processor):
    def __init__(self, labels: Sequence[str], noise: float = 0.0) -> None:
        self.labels, self.noise = list(labels), noise

    def collate(self, examples: Sequence[Point], keys: Sequence[Key], *, training: bool) -> Batch:
        x = torch.tensor([example.x for example in examples], dtype=torch.float32).reshape(-1, 4)
        if training and self.noise:
            drawn = np.array([key.generator().normal(size=4) for key in keys], dtype=np.float32).reshape(-1, 4)
            x = x + self.noise * torch.from_numpy(drawn)
        tensors = {"x": x}
        if all(example.label is not None for example in examples):
            tensors["y"] = torch.tensor(
                [self.labels.index(str(example.label)) for example in examples], dtype=torch.int64
            )
        return Batch(tensors, len(examples), len(examples))

    def as_json(self) -> dict[str, Any]:
        return {"labels": self.labels, "noise": self.noise}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["labels"], state["noise"])


class NetOptions(ModelOptions):
    hidden: int = 16
    dropout: float = 0.0
    noise: float = 0.0
    poison: int | None = None
    """The forward whose loss is made NaN."""


class Net(NeuralModel):
    """A two-layer network with batch norm, dropout and key-drawn noise, so that a resume has much to get wrong."""

    Options = NetOptions
    ProcessorType = PointProcessor
    spec = ModelSpec(
        name="toy/net", summary="Two layers.", target="tests.toys:Net", tasks=("toy/points",), trainer="gradient"
    )

    def __init__(self, *, options: NetOptions, problem: Problem, processor: PointProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.body = torch.nn.Sequential(
            torch.nn.Linear(4, options.hidden), torch.nn.BatchNorm1d(options.hidden), torch.nn.ReLU(),
            torch.nn.Dropout(options.dropout),
        )  # fmt: skip
        self.head = torch.nn.Linear(options.hidden, len(problem["labels"]))
        self.forwards = 0

    @classmethod
    def fit_processor(cls, *, options: NetOptions, problem: Problem, train: Split | None, seed: int) -> PointProcessor:
        return PointProcessor(problem["labels"], options.noise)

    def forward(self, batch: Batch) -> Output:
        logits = self.head(self.body(batch["x"]))
        target = batch.get("y")
        loss = None if target is None else torch.nn.functional.cross_entropy(logits, target)
        if self.training:
            self.forwards += 1
            if loss is not None and self.forwards == self.options.poison:
                loss = loss * float("nan")
        return Output(loss, logits)

    def decode(self, output: Output, batch: Batch) -> list[ClassPrediction]:
        return [ClassPrediction(row) for row in output.logits.float().softmax(-1).cpu().numpy()]


class Means(IterativeModel):
    """Class means, approached by halves: an iterative fit with many steps."""

    spec = ModelSpec(
        name="toy/means", summary="Class means.", target="tests.toys:Means", tasks=("toy/points",), trainer="iterative"
    )

    def __init__(self, options: ModelOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.means = torch.zeros(3, 4, dtype=torch.float64)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options, problem)

    def start(self, data: Split, engine: Any) -> State:
        return State({"means": torch.zeros(3, 4, dtype=torch.float64)}, {"moved": None})

    def step(self, data: Split, state: State, engine: Any) -> tuple[State, Progress]:
        sums, counts = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64)
        for index in range(len(data)):
            where = self.problem["labels"].index(data[index].label)
            sums[where] += torch.tensor(data[index].x, dtype=torch.float64)
            counts[where] += 1
        target = engine.reduce(sums) / engine.reduce(counts)
        means = (state.tensors["means"] + target) / 2
        moved = float((means - state.tensors["means"]).abs().max())
        return State({"means": means}, {"moved": moved}), Progress({"moved": moved}, converged=moved < 1e-6)

    def finish(self, state: State) -> None:
        self.means = state.tensors["means"].clone()

    def predict(self, examples: Sequence[Point]) -> list[ClassPrediction]:
        x = torch.tensor([example.x for example in examples], dtype=torch.float64)
        scores = (-torch.cdist(x, self.means)).softmax(-1).numpy()
        return [ClassPrediction(row) for row in scores]

    def save(self, directory: Path) -> None:
        save_tensors({"means": self.means}, directory / "model.safetensors")
        (directory / "means.json").write_text(json.dumps({"classes": 3}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        model = cls(options, problem)
        model.means = load_tensors(directory / "model.safetensors")["means"]
        return model


__all__ = ["Means", "Model", "Net", "Point", "PointProcessor", "Points", "points"]
