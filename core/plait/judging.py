"""How good is a finished run, on which data, and is it better than another?"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.api import Evaluation
from plait.artifact import Artifact, load_model
from plait.config import Recipe, resolve
from plait.data import resolve_source
from plait.engine.local import LocalEngine
from plait.errors import DataError, IntegrityError, RunError
from plait.evaluation import compare
from plait.layers import Layer
from plait.model import NeuralModel
from plait.preparing import read_splits
from plait.run import Run
from plait.task import Split, Splits, Task
from plait.training.judge import judge
from plait_registry.registry import Registry

logger = logging.getLogger("plait")


def evaluate_run(
    run: Run, data: Any, *, split: str | None, batch_size: int, registry: Registry,
    options: Mapping[str, Any] | None = None,
) -> Evaluation:  # fmt: skip
    """See `plait.evaluate`."""
    if not (run.path / "model").is_dir():
        raise RunError(
            f"{run.path}: the run has no model yet (its status is {run.status})",
            hint=f"go on with: plait train --out {run.path} --resume",
        )
    artifact = load_model(run.path / "model", registry, changes=options)
    changes: dict[str, Any] = {}
    if isinstance(data, Mapping) and "source" in data:  # the recipe's block, as `plait.train` takes it
        changes = {key: value for key, value in data.items() if key != "source"}
        data = data["source"]
    recipe = _data_recipe(run, data, changes, registry)
    task = recipe.task_type(options=recipe.data, seed=recipe.seed)
    splits = _read(task, recipe, data, split, artifact, registry)
    if data is None:
        known = run.info.get("data", {}).get("fingerprint")
        if known != splits.fingerprint:
            raise DataError(
                f"the data that {run.path} was trained from have changed, so its splits are no longer the same",
                hint="name the data to evaluate on with --data",
            )
    for note in splits.notes:
        logger.warning(note)
    name, part = _choose(splits, split, run)
    if data is None and name == "valid" and run.info.get("refit"):
        logger.warning("the model was fitted once more on train and valid: these are not examples that it has not seen")
    metrics, speed = _judge(artifact, task, recipe, part, batch_size)
    return Evaluation(run.path, run.task, run.model, name, len(part), metrics, speed)


def compare_runs(first: Run, second: Run, *, split: str, registry: Registry) -> dict[str, Any]:
    """See `plait.compare`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if first.task != second.task:
        raise RunError(f"{first.path} is of task {first.task}, {second.path} of {second.task}: nothing to compare")
    tables = []
    for run in (first, second):
        file = run.path / "predictions" / f"{split}.parquet"
        if not file.is_file():
            has = sorted(each.stem for each in file.parent.glob("*.parquet")) if file.parent.is_dir() else []
            raise RunError(f"{run.path}: no predictions on {split}", hint=f"it has {', '.join(has) or 'none'}")
        try:
            tables.append(pq.read_table(file))
        except pa.ArrowInvalid as error:
            raise IntegrityError(
                f"{file}: damaged, not a Parquet file ({error})",
                hint="restore it from a copy, or train anew with another --out",
            ) from error
    artifact = load_model(first.path / "model", registry)
    evaluator = artifact.task.evaluator(artifact.problem, [])
    if evaluator.primary is None:
        raise RunError(f"{first.task} has no primary metric to compare by")
    found = compare(evaluator.measure, tables[0], tables[1])
    return {
        "metric": evaluator.primary.name, "higher_is_better": evaluator.primary.higher_is_better, "split": split,
        "examples": found.examples, "first": found.first, "second": found.second, "difference": found.difference,
        "low": found.low, "high": found.high, "level": found.level, "p_value": found.p_value,
    }  # fmt: skip


def _data_recipe(run: Run, data: Any, changes: Mapping[str, Any], registry: Registry) -> Recipe:
    """The run's recipe with other data where they are given; its splits are then those that the data have."""
    tree = run.recipe()
    tree["model"] = {**tree["model"], "from": None, "weights": None}  # the run has its own model: they may be gone
    if data is not None:
        tree["data"] = {**tree["data"], "source": str(data) if isinstance(data, str | Path) else None, "limit": None}
    elif tree["data"].get("source") is None:
        had = (
            "its data were given from Python" if run.info.get("data", {}).get("counts") else "it has no data of its own"
        )
        raise RunError(f"{run.path}: {had}", hint="name the data to evaluate on with --data")
    return resolve([Layer(str(run.path / "recipe.yaml"), tree), Layer("arguments", {"data": changes})], registry)


def _read(task: Task, recipe: Recipe, data: Any, split: str | None, artifact: Artifact, registry: Registry) -> Splits:
    """Other data than the run's are one test split as a whole, unless they name their splits themselves."""
    if data is None:
        return read_splits(task, recipe, registry, problem=artifact.problem)[0]
    source, _ = resolve_source(data, task=recipe.task_spec, registry=registry)
    if not isinstance(source, Mapping) and split in (None, "test"):
        source = {"test": source}
    return task.read(source, artifact.problem)


def _choose(splits: Splits, wanted: str | None, run: Run) -> tuple[str, Split]:
    names = [wanted] if wanted else ["test", "valid"]
    for name in names:
        if name in ("train", "valid", "test"):
            part = splits[name]
            if part is not None and len(part):
                return name, part
    has = ", ".join(splits.names()) or "none"
    raise RunError(
        f"the data of {run.path} have no {' or '.join(names)} split (they have {has})",
        hint="choose another --split, or name other data with --data",
    )


def _judge(
    artifact: Artifact, task: Task, recipe: Recipe, part: Split, batch_size: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics, and how fast they were found."""
    engine = LocalEngine(_local_options(recipe))
    model = artifact.model
    if isinstance(model, NeuralModel):
        engine.setup(model, None, clip=None, average=None)
    evaluator = task.evaluator(artifact.problem, part)
    begun = time.process_time()  # of all threads: on a shared machine the clock would say how busy others are
    metrics = judge(model, engine, part, evaluator, batch_size=batch_size)
    return metrics, evaluator.speed(time.process_time() - begun)


def _local_options(recipe: Recipe) -> Any:
    """The run's engine options for one process on whatever device is here."""
    return recipe.engine.model_copy(
        update={"name": "local", "processes": 1, "zero_stage": 0, "device": "auto", "compile": False}
    )
