"""How well does a model do that costs next to nothing? The report prints it beside the fitted one."""

from __future__ import annotations

from collections.abc import Callable

from plait.config import Recipe, resolve
from plait.errors import RecipeError
from plait.layers import Layer
from plait.model import IterativeModel
from plait.preparing import create_model, make_engine
from plait.task import Problem, Splits, Task
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
    if not isinstance(model, IterativeModel):
        raise RecipeError("a baseline must be an IterativeModel: cheap to fit, without a training loop")
    assert splits.train is not None
    state = model.start(splits.train, engine)
    for _ in range(getattr(basis.trainer, "iterations", 100)):
        if stop():
            raise StopRequested
        state, progress = model.step(splits.train, state, engine)
        if progress.converged:
            break
    model.finish(state)
    return {
        split: judge(model, engine, part, task.evaluator(problem, part), stop=stop)
        for split in ("valid", "test")
        if (part := splits[split]) is not None and len(part)
    }
