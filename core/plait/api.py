"""What can a Python program ask Plait to do? Train, evaluate, load, compose, look around."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.config import Recipe, resolve
from plait.errors import RecipeError, RunError
from plait.layers import Layer, environment_layer, options_layer, read_recipe
from plait.run import Run
from plait_registry.registry import Registry

if TYPE_CHECKING:
    from plait.logs import Display
    from plait.model import Model
    from plait.task import Task


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run judged on a split.

    Args:
        run: the run directory.
        task, model: registered names.
        split: "train", "valid" or "test".
        examples: how many were judged.
        metrics: numbers by name.
        speed: numbers by name that depend on the machine: a real-time factor.
    """

    run: Path
    task: str
    model: str
    split: str
    examples: int
    metrics: Mapping[str, float]
    speed: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What `plait evaluate --json` prints."""
        return {
            "run": str(self.run), "task": self.task, "model": self.model, "split": self.split,
            "examples": self.examples, "metrics": dict(self.metrics),
            **({"speed": dict(self.speed)} if self.speed else {}),
        }  # fmt: skip


def registry(*classes: type[Task] | type[Model]) -> Registry:
    """What is installed, and beside it tasks and models of this program (each has a class attribute `spec`)."""
    found = Registry.discover()
    return found if not classes else with_classes(found, classes)


def train(
    task: str | type[Task],
    model: str | type[Model] | Mapping[str, Any] | None = None,
    data: Any = None,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    engine: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    resume: bool = False,
    display: Display | None = None,
    registry: Registry | None = None,
) -> Run:
    """Fit a model to a task's data; the run directory holds everything that came of it.

    Args:
        task: a registered name, a recipe file, or a class with a `spec`.
        model: a registered name, a class with a `spec`, or the recipe's `model` block; None: the task's default.
        data: a path, a registered data set's name, a sequence of examples, a mapping from split names to either,
            or the recipe's `data` block (a mapping with a key `source`).
        seed: of everything random; 0 where nothing says otherwise.
        out: the run directory; None: a new one under `runs/`.
        trainer, engine, output: the recipe's blocks of that name.
        resume: go on from the newest checkpoint in `out`; a finished run is returned as it is.
        display: shows progress; None: silent.
        registry: what is installed, where the caller has it already.

    Raises:
        PlaitError: what the user can mend; see `plait.errors`.

    Example:
        >>> run = plait.train("vision/image-classification", "vision/cnn", "digits", trainer={"epochs": 5})
        >>> run.metrics["test"]["accuracy"]
    """
    from plait.fitting import fit_recipe

    recipe, source, found = _recipe(
        task, model, data, seed=seed, out=out, trainer=trainer, engine=engine, output=output, registry=registry
    )
    return fit_recipe(recipe, found, data=source, resume=resume, display=display)


def evaluate(
    run: str | Path | Run,
    data: Any = None,
    *,
    split: str | None = None,
    batch_size: int = 64,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Evaluation:
    """Judge a run's model: on its own data's split, or on other data of the same task.

    Args:
        data: as in `train`; None: the data that the run was trained from, which must be unchanged.
        split: "train", "valid" or "test"; None: test where there is one, else valid.
        options: other values of the `model` block, of those that only say how answers are found.

    Raises:
        RunError: no such split, an option that is as it was fitted, or the run has no model.
        DataError: the data changed, or have labels that the model does not know.
    """
    from plait.judging import evaluate_run

    found = registry or Registry.discover()
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    return evaluate_run(opened, data, split=split, batch_size=batch_size, options=options, registry=found)


def compare(
    first: str | Path | Run, second: str | Path | Run, *, split: str = "test", registry: Registry | None = None
) -> dict[str, Any]:
    """The difference of two runs on the same examples, with a paired bootstrap interval.

    Returns:
        `{"metric", "split", "examples", "first", "second", "difference", "low", "high", "p_value"}`.

    Raises:
        RunError: the runs are of different tasks, or one has no predictions on the split.
        DataError: they judged different examples.
    """
    from plait.judging import compare_runs

    runs = [run if isinstance(run, Run) else Run.open(Path(run)) for run in (first, second)]
    return compare_runs(runs[0], runs[1], split=split, registry=registry or Registry.discover())


def layers(
    task_or_recipe: str | None,
    named: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
) -> list[Layer]:
    """The sources of a recipe, weakest first: a recipe file (or a task's name), the environment, options."""
    sources = []
    if task_or_recipe is not None:
        if is_recipe_file(task_or_recipe):
            sources.append(read_recipe(Path(task_or_recipe)))
        else:
            sources.append(Layer("argument", {"task": task_or_recipe}))
    return [*sources, environment_layer(environ), options_layer(assignments, named)]


def is_recipe_file(text: str) -> bool:
    """Whether a command's argument means a recipe file rather than a task."""
    return text.endswith((".yaml", ".yml"))


def with_classes(found: Registry, classes: Sequence[type[Task] | type[Model]]) -> Registry:
    """A registry that also has the classes of this program.

    Raises:
        RecipeError: a class has no `spec`.
    """
    from plait_registry.registry import Entry, Plugin

    entries = []
    for each in classes:
        if each.spec is None:
            raise RecipeError(
                f"{each.__module__}.{each.__qualname__} has no spec",
                hint="give it a class attribute `spec = TaskSpec(...)` (or ModelSpec), as a plugin would return it",
            )
        entries.append(Entry(each.spec, "python", "this-program", "0"))
    plugin = Plugin(name="python", distribution="this-program", version="0", entries=tuple(entries))
    return Registry([*found.plugins, plugin], notes=found.notes)


def _recipe(
    task: str | type[Task],
    model: str | type[Model] | Mapping[str, Any] | None,
    data: Any,
    *,
    seed: int | None,
    out: str | Path | None,
    registry: Registry | None,
    **blocks: Mapping[str, Any] | None,
) -> tuple[Recipe, Any, Registry]:
    """The recipe that `train`'s arguments mean, and the data where they are not in it."""
    found = registry or Registry.discover()
    classes = [each for each in (task, model) if isinstance(each, type)]
    if classes:
        found = with_classes(found, [each for each in classes if not _registered(found, each)])
    values: dict[str, Any] = {name: dict(block) for name, block in blocks.items() if block is not None}
    if seed is not None:
        values["seed"] = int(seed)
    if out is not None:
        values.setdefault("output", {})["directory"] = os.fspath(out)
    if model is not None:
        values["model"] = dict(model) if isinstance(model, Mapping) else _name(model, found)
    source = None
    if isinstance(data, Mapping) and "source" in data:
        values["data"] = {key: value for key, value in data.items() if key != "source"}
        data = data["source"]
    if isinstance(data, str | os.PathLike):
        values.setdefault("data", {})["source"] = os.fspath(data)
    else:
        source = data
    if isinstance(task, str) and is_recipe_file(task):
        first = read_recipe(Path(task))
    else:
        first = Layer("argument", {"task": task if isinstance(task, str) else _name(task, found)})
    return resolve([first, environment_layer(), Layer("arguments", values)], found), source, found


def _registered(found: Registry, kind: type) -> bool:
    return any(
        getattr(entry.spec, "target", None) == f"{kind.__module__}:{kind.__qualname__}" for entry in found.entries()
    )


def _name(kind: str | type, found: Registry) -> str:
    if isinstance(kind, str):
        return kind
    target = f"{kind.__module__}:{kind.__qualname__}"
    for entry in found.entries():
        if getattr(entry.spec, "target", None) == target:
            alone = sum(other.name == entry.name for other in found.entries(entry.kind)) == 1
            return entry.name if alone else entry.qualified
    raise RunError(f"{target}: its spec names another target ({getattr(kind, 'spec', None)})")
