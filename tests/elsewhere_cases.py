"""What a test runs on a device that is not there, in a process of its own: torch cannot forget a device."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

import plait
from plait.engine.local import LocalEngine
from plait.model import Batch, Key, NeuralModel, Output
from plait.options import EngineOptions
from plait.preparing import Prepared
from plait.task import examples_at
from plait.testing import Trial, cases
from plait.testing.cases import Case
from plait.training.judge import judge
from plait.training.optimization import GradientOptions, make_optimizer
from plait_registry import Registry
from tests.elsewhere import elsewhere
from tests.toys import Net, Points, points


def networks(registry: Registry) -> list[Case]:
    """What the gradient trainer fits, but for what is sparse, which the made-up device cannot hold."""
    fitted = [case for case in cases(registry) if getattr(case.model.spec, "trainer", None) == "gradient"]
    return [case for case in fitted if case.model_name != "recommendation/lightgcn"]


def tried(folder: Path, names: list[str]) -> None:
    """Writes why each of these cases failed; "" where it did not."""
    registry, told = plait.registry(), {}
    for number, case in enumerate(networks(registry)):
        if str(case) not in names:
            continue
        place = folder / str(number)
        place.mkdir()
        try:
            engine = LocalEngine(EngineOptions(device="cpu"))
            made = Prepared.make(Trial(case, registry, place).recipe(place / "run"), registry, None, engine)
            with elsewhere() as device:
                steps(made, engine, device)
            told[str(case)] = ""
        except Exception:
            told[str(case)] = traceback.format_exc()
    (folder / "told.json").write_text(json.dumps(told))


def steps(made: Prepared, engine: LocalEngine, device: torch.device, **trainer: Any) -> None:
    """A step, and an evaluation with an empty batch at its end, on the device."""
    model = made.model
    assert isinstance(model, NeuralModel)
    engine.device = device
    engine.setup(model, make_optimizer(model, GradientOptions(**trainer)), clip=1.0, average=0.9)
    train, judged = model.processor.units(made.splits.train), made.splits.valid or made.splits.test  # type: ignore[arg-type]
    assert judged is not None
    engine.train()
    output = engine.forward(engine.move(collated(model, train, 4, training=True)))
    assert output.loss is not None
    engine.backward(output.loss, scale=1.0)
    assert engine.step().applied
    engine.train(False)
    evaluator = made.task.evaluator(made.problem, judged)
    with torch.no_grad(), engine.averaged():
        for count in (3, 0):
            batch = engine.move(collated(model, judged, count, training=False))
            examples = examples_at(judged, range(min(count, len(judged))))
            evaluator.update(model.predict_batch(batch, engine, engine.forward(batch)), examples)


def collated(model: NeuralModel, split: Any, count: int, *, training: bool) -> Batch:
    examples = examples_at(split, range(min(count, len(split))))
    return model.processor.collate(examples, [Key(0, 0, at) for at in range(len(examples))], training=training)


def state(folder: Path) -> None:
    """Weights, moments, averages and buffers of another device; what is saved is of none."""
    with elsewhere() as device:

        def made() -> tuple[LocalEngine, Net]:
            engine = LocalEngine(EngineOptions(device="cpu"))
            engine.device = device
            problem = {"labels": ["a", "b", "c"]}
            options = Net.Options(name="toy/net")
            model = Net.create(options=options, problem=problem, train=points(8), seed=0)
            engine.setup(model, make_optimizer(model, GradientOptions()), clip=None, average=0.9)
            return engine, model

        def step(engine: LocalEngine, model: Net) -> float:
            engine.train()
            output: Output = engine.forward(engine.move(collated(model, points(8), 8, training=True)))
            assert output.loss is not None
            engine.backward(output.loss, scale=1.0)
            engine.step()
            return float(output.loss.detach())

        engine, model = made()
        step(engine, model)
        (folder / "shards").mkdir()
        engine.copy_shards().write(folder / "shards")
        assert {tensor.device.type for _, tensor in engine.full_state_dict()} == {"cpu"}
        after = [step(engine, model) for _ in range(2)]
        again, other = made()
        again.load_shards(folder / "shards")
        assert [step(again, other) for _ in range(2)] == after
        data = points(6, seed=2)
        evaluator = Points(options=Points.Options(), seed=0).evaluator(other.problem, data)
        assert judge(other, again, data, evaluator)["loss"] > 0


def mixed(folder: Path) -> None:
    """Tensors of two places in one operation, or nothing here would find anything."""
    with elsewhere() as device:
        there = torch.ones(3, device=device)
        assert float((there * 2.0 + torch.tensor(1.0)).sum()) == 9.0
        for act in (lambda: there + torch.ones(3), lambda: there.sum() * torch.zeros(0, 1), there.numpy):
            with pytest.raises(RuntimeError, match=r"same device|numpy"):
                act()


def core(folder: Path) -> None:
    """Both, in one start of a process."""
    mixed(folder)
    state(folder)
