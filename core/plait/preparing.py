"""What does a fit need before anything is written: data that were read, a model that was created?"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plait.artifact import load_model
from plait.config import Recipe
from plait.data import resolve_source
from plait.engine.agreement import on_first, together
from plait.engine.base import Engine
from plait.engine.world import World
from plait.errors import DataError, EngineError, RecipeError
from plait.model import Model, NeuralModel
from plait.randomness import set_seed
from plait.run import versions
from plait.task import Problem, Splits, Task
from plait.training.optimization import freeze
from plait_registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a fit needs, made in memory: data that were read, a model that was created.

    Args:
        source: what to call the data.
        notes: what a reader of the run must know.
    """

    task: Task
    splits: Splits
    source: str
    problem: Problem
    model: Model
    engine: Engine
    notes: tuple[str, ...]

    @classmethod
    def make(cls, recipe: Recipe, registry: Registry, data: Any, engine: Engine) -> Prepared:
        """Read and create, on every rank; what goes wrong on one of them is raised on all."""
        set_seed(recipe.seed)
        with together(engine):
            task: Task = recipe.task_type(options=recipe.data, seed=recipe.seed)
            splits, source = read_splits(task, recipe, registry, data)
            if (splits.train is None or not len(splits.train)) and getattr(recipe.trainer, "epochs", None) != 0:
                raise DataError("there are no training examples", hint="trainer.epochs=0 makes a run of given weights")
            problem = json.loads(json.dumps(task.problem(splits)))  # what it will be once loaded: no tuples, text keys
            earlier = None
            if recipe.model_options.from_ is not None:
                earlier = load_model(Path(recipe.model_options.from_) / "model", registry).model
        _refuse_other_data(splits, engine)
        model = create_model(recipe, problem, splits, engine, earlier)
        notes = [*splits.notes, *getattr(model, "notes", ())]
        with together(engine):
            if earlier is not None:
                try:
                    notes += [f"model.from: {note}" for note in model.start_from(earlier)]
                except (NotImplementedError, TypeError) as error:
                    raise RecipeError(f"model.from={recipe.model_options.from_}: {error}") from error
            if isinstance(model, NeuralModel):
                freeze(model, recipe.model_options.freeze)
            elif recipe.model_options.freeze:
                raise RecipeError(f"model.freeze: {recipe.model_options.name} has no named parameters to freeze")
        return cls(task, splits, source, problem, model, engine, tuple(notes))


def _refuse_other_data(splits: Splits, engine: Engine) -> None:
    """Ranks that read different data would train on neither."""
    if engine.world_size > 1:
        prints = engine.gather(splits.fingerprint)
        other = [rank for rank, each in enumerate(prints) if each != prints[0]]
        if other:
            raise DataError(
                f"rank {', '.join(map(str, other))} read other data than rank 0",
                hint="every host must see the same files (a shared disk, or equal copies)",
            )


def read_splits(
    task: Task, recipe: Recipe, registry: Registry, data: Any = None, *, problem: Problem | None = None
) -> tuple[Splits, str]:
    """The data that a recipe names (or that are given), as its task reads them; and what to call them."""
    given = recipe.data.source if data is None else data
    source, description = resolve_source(given, task=recipe.task_spec, registry=registry)
    splits = task.read(source, problem)
    if description.endswith("(synthetic)"):
        splits = replace(splits, notes=("synthetic data: generated, not measured in the world", *splits.notes))
    return splits, description


def make_engine(recipe: Recipe, registry: Registry, *, alone: bool = False) -> Engine:
    """The engine that the recipe asks for.

    auto is the local one, unless several processes train together, or sharding, offload or a setting of DeepSpeed's is
    asked for.

    Args:
        alone: one process and no sharding, whatever the recipe says and whoever started this process.
    """
    options = recipe.engine
    if alone:
        options = options.model_copy(
            update={"name": "local", "processes": 1, "zero_stage": 0, "offload": None, "config": {}}
        )
    name = options.name
    if name == "auto":
        several = max(options.processes, World.find().size) > 1
        name = "deepspeed" if several or options.zero_stage or options.offload or options.config else "local"
    engine: Engine = registry.engine(name).resolve()(options)
    return engine


def refuse_mixtures(engine: Engine, recipe: Recipe) -> None:
    """Processes of different versions, or with different recipes, would not train one model.

    Raises:
        EngineError: names what differs, and where.
    """
    if engine.world_size == 1:
        return
    entries = {each.distribution: each.version for each in (recipe.task, recipe.model)}
    blocks = {name: block for name, block in recipe.as_json().items() if name not in ("data", "engine", "output")}
    told = {**versions(entries), "host": socket.gethostname(), "recipe": json.dumps(blocks, sort_keys=True)}
    found = engine.gather(told)
    for rank, each in enumerate(found):
        if each["recipe"] != found[0]["recipe"]:
            raise EngineError(
                f"rank {rank} ({each['host']}) has another recipe than rank 0 ({found[0]['host']})",
                hint="run the same command on every host",
            )
        differing = [name for name in found[0] if name not in ("host", "platform") and each.get(name) != found[0][name]]
        if differing:
            listed = ", ".join(f"{name} {each.get(name)} and not {found[0][name]}" for name in differing)
            raise EngineError(
                f"rank {rank} ({each['host']}) has {listed} as rank 0 ({found[0]['host']}) has",
                hint="install the same versions on every host",
            )


def create_model(recipe: Recipe, problem: Problem, splits: Splits, engine: Engine, earlier: Model | None) -> Model:
    """The model that the recipe names, ready to be fitted on the training split."""
    options, seed, train = recipe.model_options, recipe.seed, splits.train
    kind = recipe.model_type
    if not issubclass(kind, NeuralModel):
        with together(engine):
            created = kind.create(options=options, problem=problem, train=train, seed=seed)
        return created  # noqa: RET504  # a type checker cannot know that `together` swallows nothing
    fitted: Any = None

    def fit() -> Any:
        nonlocal fitted
        if isinstance(earlier, NeuralModel):
            fitted = kind.take_processor(earlier.processor, options=options, problem=problem, train=train)
        else:
            fitted = kind.fit_processor(options=options, problem=problem, train=train, seed=seed)
        return fitted.as_json() if engine.world_size > 1 else None

    state = on_first(engine, fit)
    with together(engine):
        if fitted is None:
            fitted = kind.ProcessorType.from_json(state)
        built = engine.create(lambda: kind.build(options=options, problem=problem, processor=fitted, seed=seed))
    return built  # noqa: RET504  # as above
