"""What does a fit need before anything is written: data that were read, a model that was created?"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plait.artifact import load_model
from plait.config import Recipe
from plait.data import resolve_source
from plait.engine.base import Engine
from plait.errors import DataError, EngineError, RecipeError
from plait.model import Model, NeuralModel
from plait.randomness import set_seed
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
    def make(cls, recipe: Recipe, registry: Registry, data: Any) -> Prepared:
        set_seed(recipe.seed)
        task: Task = recipe.task_type(options=recipe.data, seed=recipe.seed)
        splits, source = read_splits(task, recipe, registry, data)
        if (splits.train is None or not len(splits.train)) and getattr(recipe.trainer, "epochs", None) != 0:
            raise DataError("there are no training examples", hint="trainer.epochs=0 makes a run of given weights")
        problem = json.loads(json.dumps(task.problem(splits)))  # what it will be once loaded: no tuples, text keys
        engine = make_engine(recipe, registry)
        earlier = None
        if recipe.model_options.from_ is not None:
            earlier = load_model(Path(recipe.model_options.from_) / "model", registry).model
        model = create_model(recipe, problem, splits, engine, earlier)
        notes = [*splits.notes, *getattr(model, "notes", ())]
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


def make_engine(recipe: Recipe, registry: Registry) -> Engine:
    """The engine that the recipe asks for; auto is the local one, unless several processes or sharding are wanted."""
    options = recipe.engine
    name = options.name
    if name == "auto":
        name = "deepspeed" if options.processes > 1 or options.zero_stage else "local"
        if name == "deepspeed" and not any(entry.name == name for entry in registry.entries("engine")):
            raise EngineError(
                f"engine.processes={options.processes}, engine.zero_stage={options.zero_stage} need the deepspeed "
                "engine, which this installation does not have",
                hint="use engine.processes=1 and engine.zero_stage=0",
            )
    engine: Engine = registry.engine(name).resolve()(options)
    return engine


def create_model(recipe: Recipe, problem: Problem, splits: Splits, engine: Engine, earlier: Model | None) -> Model:
    """The model that the recipe names, ready to be fitted on the training split."""
    options, seed, train = recipe.model_options, recipe.seed, splits.train
    kind = recipe.model_type
    if not issubclass(kind, NeuralModel):
        return kind.create(options=options, problem=problem, train=train, seed=seed)
    fitted = None
    if engine.rank == 0:
        if isinstance(earlier, NeuralModel):
            fitted = kind.take_processor(earlier.processor, options=options, problem=problem, train=train)
        else:
            fitted = kind.fit_processor(options=options, problem=problem, train=train, seed=seed)
    if engine.world_size > 1:
        state = engine.gather(None if fitted is None else fitted.as_json())[0]
        fitted = kind.ProcessorType.from_json(state) if fitted is None else fitted
    with engine.creating():
        return kind.build(options=options, problem=problem, processor=fitted, seed=seed)
