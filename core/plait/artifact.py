"""How does a fitted model become a directory that loads anywhere and executes nothing?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version
from pydantic import ValidationError

from plait.afterwards import changed
from plait.engine.agreement import agree
from plait.errors import IntegrityError, PluginError, RunError, UnknownNameError
from plait.sealed import publish, seal, storage, verify
from plait.weights import stream_tensors
from plait_registry.registry import Entry, Registry
from plait_registry.specs import TaskSpec

if TYPE_CHECKING:
    from torch import Tensor

    from plait.engine.base import Engine
    from plait.model import Model
    from plait.task import Problem, Task

SCHEMA = 1
CARD = "plait.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A fitted model with the task that it answers.

    Args:
        spec: the task's spec, for its ports.
        task, model: ready to parse, predict and present.
        problem: what the model knows of the data.
        model_name: its registered name, with a family's variant.
        entries: where task and model were registered.
    """

    spec: TaskSpec
    task: Task
    model: Model
    problem: Problem
    model_name: str
    entries: tuple[Entry, Entry]

    def save(self, directory: Path) -> None:
        """Write the model so that it loads anywhere."""
        task, model = self.entries
        data = self.task.options.as_json() | {"source": None, "limit": None}
        save_model(directory, self.model, task=task, entry=model, problem=self.problem, data=data, seed=self.task.seed)


def save_model(
    directory: Path,
    model: Model,
    *,
    task: Entry,
    entry: Entry,
    problem: Problem,
    data: Mapping[str, Any],
    seed: int,
    engine: Engine | None = None,
) -> None:
    """Write a model beside `directory` and rename it into place, sealed.

    Args:
        engine: where the model was fitted, with several processes: rank 0 writes, and all ranks call this.

    Raises:
        StorageError: on every rank.
    """
    if engine is None or engine.world_size == 1:
        _write_model(directory, model, engine, task=task, entry=entry, problem=problem, data=data, seed=seed)
        return
    failure: Exception | None = None
    weights = engine.full_state_dict() if engine.sharded else iter(())
    if engine.rank == 0:
        try:
            _write_model(
                directory, model, engine, task=task, entry=entry, problem=problem, data=data, seed=seed, weights=weights
            )
        except Exception as error:  # the others wait in the next gathering of a tensor
            failure = error
    for _ in weights:
        pass
    agree(engine, failure)


def _write_model(
    directory: Path,
    model: Model,
    engine: Engine | None,
    *,
    task: Entry,
    entry: Entry,
    problem: Problem,
    data: Mapping[str, Any],
    seed: int,
    weights: Iterator[tuple[str, Tensor]] | None = None,
) -> None:
    temporary = directory.with_name(f".{directory.name}.writing")
    with storage(f"{directory}: the model could not be written"):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        from plait.model import NeuralModel

        if engine is not None and engine.sharded and isinstance(model, NeuralModel):
            found = weights or engine.full_state_dict()
            named = ((model.name_in_file(name), tensor) for name, tensor in found)
            stream_tensors(named, temporary / "model.safetensors")
            model.save_assets(temporary)
        else:
            model.save(temporary)
        card = {
            "schema": SCHEMA,
            "task": task.name,
            "model": model.options.name,
            "plugins": {each.distribution: each.version for each in (task, entry)},
            "problem": problem,
            "options": model.options.as_json(),
            "data": dict(data),
            "seed": seed,
        }
        (temporary / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
        seal(temporary)
        publish(temporary, directory)


def load_model(directory: Path, registry: Registry, *, changes: Mapping[str, Any] | None = None) -> Artifact:
    """Read what `save_model` wrote: checked file by file, names looked up in the registry, nothing executed.

    Args:
        changes: other values of the `model` block, of those that may be changed afterwards.

    Raises:
        RunError: one of `changes` is as it was fitted.
        IntegrityError: a file is missing or changed.
        PluginError: the plugin that the model needs is absent or older; says which pip command helps.
    """
    verify(directory)
    card = json.loads((directory / CARD).read_text(encoding="utf-8"))
    if card.get("schema") != SCHEMA:
        raise RunError(
            f"{directory / CARD}: schema version {card.get('schema')}; this plait reads {SCHEMA}",
            hint="pip install --upgrade plait",
        )
    entries = []
    for kind, name in (("task", card["task"]), ("model", card["model"])):
        entries.append(_entry(registry, kind, str(name), card["plugins"], directory))
    task_entry, model_entry = entries
    for entry in entries:
        _check_version(entry, card["plugins"].get(entry.distribution), directory)
    task_type, model_type = task_entry.resolve(), model_entry.resolve()
    try:
        options = model_type.Options.model_validate(card["options"])
        data = task_type.Options.model_validate(card["data"])
    except ValidationError as error:
        raise RunError(
            f"{directory / CARD}: options that the installed plugin does not understand: {error}",
            hint=f"the model was written with {card['plugins']}",
        ) from error
    if changes:
        options = changed(options, changes)
    problem: Problem = card["problem"]
    try:
        model = model_type.load(directory, options=options, problem=problem)
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # what loading damaged or foreign state raises
        raise IntegrityError(f"{directory}: {card['model']} could not be loaded: {error}") from error
    assert isinstance(task_entry.spec, TaskSpec)
    task = task_type(options=data, seed=card["seed"])
    return Artifact(task_entry.spec, task, model, problem, card["model"], (task_entry, model_entry))


def _entry(registry: Registry, kind: str, name: str, plugins: Mapping[str, str], directory: Path) -> Entry:
    try:
        return registry.find(kind, name)
    except UnknownNameError as error:
        made_with = " and ".join(f"{each} {number}".strip() for each, number in plugins.items())
        missing = [each for each in plugins if not any(plugin.distribution == each for plugin in registry.plugins)]
        hint = f"pip install {' '.join(missing)}" if missing else error.hint
        raise PluginError(
            f"{directory} needs the {kind} {name!r} of {made_with}: {error.message}", hint=hint
        ) from error


def _check_version(entry: Entry, written: str | None, directory: Path) -> None:
    try:
        newer = written is not None and Version(written).release[:2] > Version(entry.version).release[:2]
    except InvalidVersion:
        return  # a version that nobody can order cannot be called newer
    if newer:
        raise PluginError(
            f"{directory} was written with {entry.distribution} {written}, and {entry.version} is installed",
            hint=f'pip install --upgrade "{entry.distribution}>={written}"',
        )
