"""What does a fit need before anything is written: data that were read, a model that was created?"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plait.artifact import load_model
from plait.config import Recipe
from plait.data import resolve_source
from plait.engine.agreement import agree, on_first, together
from plait.engine.base import Engine
from plait.engine.deferred import has_no_numbers
from plait.engine.world import World
from plait.errors import DataError, EngineError, RecipeError
from plait.model import Model, NeuralModel
from plait.randomness import set_seed
from plait.run import versions
from plait.task import Problem, Splits, Task
from plait.training.optimization import freeze
from plait_registry.registry import Registry

logger = logging.getLogger("plait")


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
            earlier = None if recipe.model_options.from_ is None else engine.create(lambda: _earlier(recipe, registry))
        _refuse_other_data(splits, engine)
        model = create_model(recipe, problem, splits, engine, earlier)
        notes = [*splits.notes, *getattr(model, "notes", ())]
        with together(engine):
            if earlier is not None:
                try:
                    taken = _take_over(model, earlier, lambda: _earlier(recipe, registry))
                    notes += [f"model.from: {note}" for note in taken]
                except (NotImplementedError, TypeError) as error:
                    raise RecipeError(f"model.from={recipe.model_options.from_}: {error}") from error
            if isinstance(model, NeuralModel):
                freeze(model, recipe.model_options.freeze)
            elif recipe.model_options.freeze:
                raise RecipeError(f"model.freeze: {recipe.model_options.name} has no named parameters to freeze")
        return cls(task, splits, source, problem, model, engine, tuple(notes))


def _earlier(recipe: Recipe, registry: Registry) -> Model:
    """The model of the run that `model.from` names."""
    return load_model(Path(str(recipe.model_options.from_)) / "model", registry).model


def _take_over(model: Model, earlier: Model, read: Callable[[], Model]) -> list[str]:
    """Start `model` from `earlier`; what did not fit.

    At ZeRO 3 neither has numbers above rank 0, which deals out its own; where one of them needs numbers nevertheless,
    `read` gives all.
    """
    if has_no_numbers(earlier):
        try:
            if has_no_numbers(model):
                return model.start_from(earlier)
        except (RuntimeError, NotImplementedError) as error:
            if "meta" not in str(error):
                raise
        earlier = read()
    return model.start_from(earlier)


def _refuse_other_data(splits: Splits, engine: Engine) -> None:
    """Ranks that read different data would train on neither."""
    if engine.world_size > 1:
        prints = engine.gather(splits.fingerprint)
        other = [rank for rank, each in enumerate(prints) if each != prints[0]]
        if other:
            refused = DataError(
                f"rank {', '.join(map(str, other))} read other data than rank 0",
                hint="every host must see the same files (a shared disk, or equal copies)",
            )
            agree(engine, refused)  # each rank has found it; one tells the user


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
            update={
                "name": "local", "processes": 1, "zero_stage": 0, "offload": None, "offload_directory": None,
                "config": {},
            }
        )  # fmt: skip
    name = options.name
    if name == "auto":
        several = max(options.processes, World.find().size) > 1
        name = "deepspeed" if several or options.zero_stage or options.offload or options.config else "local"
    if options.max_restarts and not alone:
        from plait.engine.launch import JOB

        if JOB not in os.environ:
            logger.warning("engine.max_restarts: only processes that Plait starts itself (--nproc) are started again")
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
            refused = EngineError(
                f"rank {rank} ({each['host']}) has another recipe than rank 0 ({found[0]['host']})",
                hint="run the same command on every host",
            )
            agree(engine, refused)  # each rank has found it; one tells the user
        differing = [name for name in found[0] if name not in ("host", "platform") and each.get(name) != found[0][name]]
        if differing:
            listed = ", ".join(f"{name} {each.get(name)} and not {found[0][name]}" for name in differing)
            refused = EngineError(
                f"rank {rank} ({each['host']}) has {listed} as rank 0 ({found[0]['host']}) has",
                hint="install the same versions on every host",
            )
            agree(engine, refused)


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
