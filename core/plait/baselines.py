"""How well does a model do that costs next to nothing? The report prints it beside the fitted one."""

from __future__ import annotations

from collections.abc import Callable

from plait.config import Recipe, resolve
from plait.engine.base import Engine
from plait.errors import RecipeError
from plait.layers import Layer
from plait.model import IterativeModel
from plait.preparing import create_model, make_engine
from plait.task import Problem, Split, Splits, Task
from plait.trainer import StopRequested
from plait.training.judge import judge
from plait_registry.registry import Registry


def fit_baseline(
    name: str,
    recipe: Recipe,
    registry: Registry,
    task: Task,
    problem: Problem,
    splits: Splits,
    stop: Callable[[], str | None],
) -> dict[str, dict[str, float]]:
    """Fit a task's baseline on the same data, in memory, and judge it on `valid` and `test`.

    Raises:
        StopRequested: `stop` gave a reason.
    """
    basis = resolve([Layer("baseline", {"task": recipe.task.qualified, "model": name, "seed": recipe.seed})], registry)
    engine = make_engine(basis, registry, alone=True)  # on rank 0; the others wait
    model = create_model(basis, problem, splits, engine, None)
    if isinstance(model, IterativeModel):
        assert splits.train is not None
        _iterate(model, basis, splits.train, engine, stop)
    elif basis.trainer_type is not None:
        raise RecipeError("a baseline must be an IterativeModel, cheap to fit without a training loop, or only predict")
    metrics = {}
    for name in ("valid", "test"):
        if name == "test" and splits.refit is not None and isinstance(model, IterativeModel):
            _iterate(model, basis, splits.refit, engine, stop)  # as the model beside which it is printed
        part = splits[name]
        if part is not None and len(part):
            metrics[name] = judge(model, engine, part, task.evaluator(problem, part), stop=stop)
    return metrics


def _iterate(
    model: IterativeModel, basis: Recipe, train: Split, engine: Engine, stop: Callable[[], str | None]
) -> None:
    state = model.start(train, engine)
    for _ in range(getattr(basis.trainer, "iterations", 100)):
        if stop():
            raise StopRequested
        state, progress = model.step(train, state, engine)
        if progress.converged:
            break
    model.finish(state)
