"""Does every installed plugin keep the contract, and does the contract catch those who break it?"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.data import no_such_path
from plait.errors import PluginError
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait.model import Batch, Output, Progress, State
from plait.options import ModelOptions
from plait.task import Prediction, Problem, Split, Splits
from plait.testing import CHECKS, Trial, cases, conformance, run_check, run_checks
from plait_registry import DatasetSpec, Entry, ModelSpec, Plugin, PortSpec, Registry, TaskSpec
from plait_registry.specs import Spec
from tests import toys

test_installed = conformance()


class Points(toys.Points):
    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        if isinstance(source, Path):
            raise no_such_path(source)
        return super().read(source, problem)


class NetOptions(ModelOptions):
    hidden: int = 16
    """Units."""
    dropout: float = 0.1
    """Part of the units that a step leaves out."""
    noise: float = 0.1
    """Standard deviation of what is added to inputs."""
    poison: int | None = None
    """Never."""


class Net(toys.Net):
    Options = NetOptions


class Means(toys.Means):
    """Each step halves the way to the class means; it logs the distance that is left."""

    def step(self, data: Split, state: State, engine: Any) -> tuple[State, Progress]:
        after, progress = super().step(data, state, engine)
        return after, Progress({"loss": progress.metrics["moved"]}, progress.converged)


class FittedBefore(toys.Means):
    """Its means were found elsewhere: it only predicts."""

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Any:
        model = cls(options, problem)
        model.means = torch.tensor([[0.0, -1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).double()
        return model


class FittedElsewhere(FittedBefore):
    """It forgets its means when it is loaded."""

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Any:
        return cls(options, problem)


def registry(task: type = Points, model: type = Net, **changes: Any) -> Registry:
    """A registry of one task with one model, as a distribution `toy` would offer them."""
    trainer = "iterative" if issubclass(model, toys.Means) else "gradient"
    changes = {"name": "toy/model", "trainer": trainer, "accepts": {"point": "vector"}, **changes}
    specs: list[Spec | PortSpec] = [
        TaskSpec(
            name="toy/points", summary="Which third of the circle.", target=f"{__name__}:{task.__name__}",
            accepts=changes.pop("accepts"), returns={"label": "label"}, primary_metric=("accuracy", True),  # type: ignore[arg-type]  # a tuple is fine to write
            demo_data=changes.pop("demo_data", "circle"),
        ),
        ModelSpec(summary="One model.", target=f"{__name__}:{model.__name__}", tasks=("toy/points",), **changes),
        DatasetSpec(name="circle", summary="Points.", target="tests.toys:points", tasks=("toy/points",)),
        PortSpec(name="vector", summary="Numbers."),
    ]  # fmt: skip
    entries = tuple(Entry(spec, "toy", "toy", "1.0") for spec in specs)
    core = [plugin for plugin in Registry.discover().plugins if plugin.distribution == "plait"]
    return Registry([*core, Plugin(name="toy", distribution="toy", version="1.0", entries=entries)])


@pytest.mark.parametrize("model", [Net, Means])
def test_an_honest_model_passes_every_check(model: type) -> None:
    results = list(run_checks(registry(model=model), "toy"))
    assert [(each.check, each.reason) for each in results if each.status == "failed"] == []
    assert [each.check for each in results] == list(CHECKS)
    assert [each.check for each in results if each.status == "skipped"] == ([] if model is Net else ["batches"])
    assert str(results[0].case) == "toy/points+toy/model"


def test_a_model_that_only_predicts_passes_the_checks_that_are_no_training() -> None:
    results = list(run_checks(registry(model=FittedBefore, trainer=None), "toy"))
    assert [(each.check, each.reason) for each in results if each.status == "failed"] == []
    assert [each.check for each in results if each.status == "skipped"] == ["batches", "learns", "resumes"]
    assert all("only predicts" in each.reason for each in results if each.check in ("learns", "resumes"))


# Each of the following breaks one promise.


class Unexplained(NetOptions):
    depth: int = 3


class Mute(Net):
    Options = Unexplained


class Unwritten(toys.NeuralModel):
    Options = NetOptions


class WrongMetric(ClassificationEvaluator):
    def compute(self) -> dict[str, float]:
        return {"top1": super().compute().get("accuracy", 0.0)}


class Misjudged(Points):
    def evaluator(self, problem: Problem, split: Split) -> WrongMetric:
        return WrongMetric(problem["labels"])


class Dice(toys.PointProcessor):
    def collate(self, examples: Sequence[Any], keys: Sequence[Any], *, training: bool) -> Batch:
        batch = super().collate(examples, keys, training=training)
        batch.tensors["x"] += 1e-3 * torch.rand_like(batch["x"])
        return batch


class Gambler(Net):
    ProcessorType = Dice

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Dice:
        return Dice(problem["labels"])


class Forgets(toys.PointProcessor):
    def as_json(self) -> dict[str, Any]:
        return {"labels": self.labels, "noise": 0.0}


class Forgetful(Net):
    ProcessorType = Forgets

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Forgets:
        return Forgets(problem["labels"], noise=0.1)

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Any:
        model = super().load(directory, options=options, problem=problem)
        model.processor.noise = 0.1
        return model


class Detached(Net):
    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        loss = None if output.loss is None else output.loss.detach() + 0 * output.logits.sum()
        return Output(loss, output.logits)


class Drifting(Means):
    def step(self, data: Split, state: State, engine: Any) -> tuple[State, Progress]:
        after, progress = super().step(data, state, engine)
        return after, Progress({"log_likelihood": progress.metrics["loss"]})


class Guessing(Means):
    def predict(self, examples: Sequence[Any]) -> list[ClassPrediction]:
        rows = torch.rand(len(examples), 3, generator=torch.Generator().manual_seed(1)).softmax(1)
        return [ClassPrediction(row.numpy()) for row in rows]


class Silent(Means):
    def step(self, data: Split, state: State, engine: Any) -> tuple[State, Progress]:
        return super().step(data, state, engine)[0], Progress({"moved": 1.0})


class Rounding(Net):
    def save(self, directory: Path) -> None:
        weight = self.head.weight.detach()
        kept = weight.clone()
        weight.copy_(weight.round(decimals=1))
        super().save(directory)
        weight.copy_(kept)


class Enthusiast(Points):
    def present(self, prediction: ClassPrediction, problem: Problem) -> Prediction:
        answer = super().present(prediction, problem)
        return Prediction(answer.prediction, {"best": prediction.probabilities.max()}, answer.outputs)  # a NumPy float


class Counting(Net):
    """Its loss depends on a number that no checkpoint holds."""

    def forward(self, batch: Batch) -> Output:
        output = super().forward(batch)
        return Output(None if output.loss is None else output.loss * (1 + 0.1 * self.forwards), output.logits)


class Remembering(Means):
    def step(self, data: Split, state: State, engine: Any) -> tuple[State, Progress]:
        after, progress = super().step(data, state, engine)
        self.pull = getattr(self, "pull", 1.0) * 0.9
        return State({"means": after.tensors["means"] * (1 + 0.01 * self.pull)}, after.values), progress


class Swallowing(Points):
    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Any:
        return toys.Point((0.0,) * 4) if not hasattr(inputs["point"], "__len__") else super().parse(inputs, problem)


class Careless(Points):
    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        if isinstance(source, Path):
            source.read_text(encoding="utf-8")
        return super().read(source, problem)


class Pickling(Means):
    def save(self, directory: Path) -> None:
        super().save(directory)
        (directory / "notes.dat").write_bytes(pickle.dumps({"anything": 1}))


SINS = [
    ("resolves", {"model": Mute}, "fields without a word on them: depth"),
    ("resolves", {"model": Unwritten}, "leaves decode, fit_processor, forward unwritten"),
    ("resolves", {"model": Net, "trainer": "iterative"}, "a subclass of plait's IterativeModel"),
    ("resolves", {"task": Means}, "a subclass of plait's Task"),
    ("resolves", {"name": "toy/*"}, r"the family toy/\* has no conformance variant"),
    ("resolves", {"demo_data": None}, "TaskSpec.demo_data"),
    ("ports", {"accepts": {"point": "star-chart"}}, "'star-chart', which nobody registered"),
    ("trains", {"task": Misjudged}, "'accuracy' is None; there are"),
    ("batches", {"model": Gambler}, "draws all randomness from key.generator"),
    ("batches", {"model": Forgetful}, "as_json gives the whole fitted state"),
    ("learns", {"model": Detached}, "the loss on 8 training examples went from"),
    ("learns", {"model": Drifting}, "log_likelihood went from .* in step 2"),
    ("learns", {"model": Silent}, "logs moved; expected: Progress.metrics has one of"),
    ("learns", {"model": Guessing}, "beats chance"),
    ("saves", {"model": Rounding}, "the loaded model has other metrics"),
    ("saves", {"model": FittedElsewhere, "trainer": None}, "the loaded model has other metrics"),
    ("saves", {"task": Enthusiast}, "JSON values"),
    ("resumes", {"model": Counting}, "model.safetensors"),
    ("resumes", {"model": Remembering}, "model.safetensors"),
    ("refuses", {"task": Swallowing}, "Task.parse raises plait.errors.InputError"),
    ("refuses", {"task": Careless}, "raised FileNotFoundError"),
    ("artefact", {"model": Pickling}, "the run holds model/notes.dat"),
]


@pytest.mark.parametrize(("check", "broken", "words"), SINS, ids=[f"{check}-{words[:24]}" for check, _, words in SINS])
def test_a_broken_promise_fails_its_check(check: str, broken: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = registry(**broken)
    result = run_check(check, Trial(cases(found, "toy")[0], found, tmp_path))
    assert result.status == "failed", result
    assert re.search(words, result.reason), result.reason


def test_a_suite_that_tests_nothing_is_an_error() -> None:
    with pytest.raises(PluginError, match="no plugin of a distribution 'plait-visoin' is installed") as caught:
        conformance("plait-visoin")
    assert "plait-vision" in str(caught.value.hint)
    with pytest.raises(PluginError, match="offers no task with a model that serves it"):
        conformance("plait")
