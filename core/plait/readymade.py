"""How does a model that nobody need fit answer without a run?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from plait.artifact import Artifact
from plait.config import resolve
from plait.errors import RunError, UnknownNameError, did_you_mean
from plait.layers import Layer, environment_layer, options_layer
from plait.predictor import Predictor
from plait.randomness import set_seed
from plait.task import Task
from plait_registry.registry import Entry, Registry
from plait_registry.specs import ModelSpec


def is_ready_made(name: str, registry: Registry) -> bool:
    """Whether this is the name of a registered model, or of a family's variant, that only predicts.

    Raises:
        AmbiguousNameError: two distributions offer it.
    """
    try:
        spec = registry.model(name).spec
    except UnknownNameError:
        return False
    return isinstance(spec, ModelSpec) and spec.trainer is None


def ready_made(
    name: str, registry: Registry, *, options: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> Predictor:
    """The predictor of a registered model that only predicts (its spec's trainer is None).

    Args:
        options: values of the recipe's `model` block: {"voice": "de"}.
        assignments: any values of the recipe, as texts: ["model.voice=de"]; "task=..." where it serves several tasks.

    Raises:
        RecipeError: an option is unknown or wrong.
        RunError: the model serves several tasks, and none is named.
        PlaitError: what the model itself says, such as that an extra is not installed.
    """
    entry = registry.model(name)
    asked = options_layer(assignments)
    first = Layer("argument", {"task": _task(entry, asked), "model": {**(options or {}), "name": name}})
    recipe = resolve([environment_layer(), first, asked], registry)
    set_seed(recipe.seed)
    task: Task = recipe.task_type(options=recipe.data, seed=recipe.seed)
    problem = json.loads(json.dumps(task.problem(task.read(None))))  # as a loaded model has it
    model = recipe.model_type.create(options=recipe.model_options, problem=problem, train=None, seed=recipe.seed)
    artifact = Artifact(recipe.task_spec, task, model, problem, recipe.model_options.name, (recipe.task, recipe.model))
    return Predictor(artifact, path=None)


def hint_for(name: str, registry: Registry) -> str | None:
    """What may have been meant by a name that is no directory."""
    if any(entry.name == name for entry in registry.entries("model")):
        return f"{name} is to be fitted first: plait train TASK --model {name} --out DIR"
    return did_you_mean(name, _offered(registry))


def _offered(registry: Registry) -> list[str]:
    specs = [entry.spec for entry in registry.entries("model")]
    return [spec.name for spec in specs if isinstance(spec, ModelSpec) and spec.trainer is None]


def _task(entry: Entry, layer: Layer) -> str:
    named = layer.values.get("task")
    if isinstance(named, str):
        return named
    assert isinstance(entry.spec, ModelSpec)
    if len(entry.spec.tasks) > 1:
        raise RunError(
            f"{entry.name} serves {len(entry.spec.tasks)} tasks",
            hint=f"name one: --set task={' or --set task='.join(entry.spec.tasks)}",
        )
    return entry.spec.tasks[0]
