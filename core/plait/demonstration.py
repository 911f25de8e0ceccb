"""How does a model that only predicts become a run?"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.artifact import save_model
from plait.config import Recipe
from plait.lock import locked
from plait.model import NeuralModel
from plait.preparing import create_model, make_engine, read_splits
from plait.randomness import set_seed
from plait.recordings import write_recordings
from plait.run import Run, check_free, create_run, new_directory
from plait.task import Prediction, Task
from plait.training.judge import judge
from plait_registry.registry import Registry

logger = logging.getLogger("plait")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A run of a model that nobody fitted, and what it answered.

    Args:
        run: holds the model, so that it predicts, composes and loads as any run does.
        examples: the first examples of the data; empty where the run was there already.
        answers: one for each.
        files: of each answer, the recordings by port; they lie in the run's `outputs/`.
    """

    run: Run
    examples: list[Any]
    answers: list[Prediction]
    files: list[dict[str, str]]

    def document(self) -> dict[str, Any]:
        """What `plait run --json` prints of it: a run's document, and the predictions as `plait predict` has them."""
        shown = []
        answered = zip(self.examples, self.answers, self.files, strict=True)
        for number, (example, answer, files) in enumerate(answered):
            each = {"input": getattr(example, "id", number), "prediction": answer.prediction}
            each |= {"scores": dict(answer.scores)} if answer.scores is not None else {}
            shown.append({**each, "files": files} if files else each)
        return {**self.run.document(), "predictions": shown}


def demonstrate(recipe: Recipe, registry: Registry, *, resume: bool = False, most: int = 8) -> Demonstration:
    """Create the model, save it, and let it answer for the first examples of its data.

    A task with a primary metric also judges it on `valid` and `test`.

    Args:
        resume: a finished run is returned as it is.
        most: how many examples.

    Raises:
        PlaitError: what the user can mend, before anything is written.
    """
    begun = time.monotonic()
    given = recipe.output.directory
    path = Path(given) if given else new_directory(Path("runs"), recipe.task.name, recipe.model_options.name)
    if check_free(path, resume=resume):
        run = Run.open(path)
        recipe.refuse_changes(run.recipe())
        if run.status == "finished":
            return Demonstration(run, [], [], [])
    set_seed(recipe.seed)
    task: Task = recipe.task_type(options=recipe.data, seed=recipe.seed)
    splits, source = read_splits(task, recipe, registry)
    problem = json.loads(json.dumps(task.problem(splits)))
    engine = make_engine(recipe, registry, alone=True)
    if recipe.engine.processes > 1:
        logger.warning("engine.processes=%d: a model that only predicts answers in one", recipe.engine.processes)
    model = create_model(recipe, problem, splits, engine, None)
    if isinstance(model, NeuralModel):
        engine.setup(model, None, clip=None, average=None)
    parts = {name: part for name in ("test", "valid", "train") if (part := splits[name]) is not None and len(part)}
    first = next(iter(parts.values()), [])
    examples = [first[index] for index in range(min(most, len(first)))]
    answers = [task.present(each, problem) for each in (model.predict(examples) if examples else [])]
    judged = [] if recipe.task_spec.primary_metric is None else [name for name in ("valid", "test") if name in parts]
    metrics = {name: judge(model, engine, parts[name], task.evaluator(problem, parts[name])) for name in judged}
    with locked(path):
        run = create_run(path, recipe, registry)
        save_model(
            path / "model", model, task=recipe.task, entry=recipe.model, problem=problem,
            data=recipe.data.as_json() | {"source": None, "limit": None}, seed=recipe.seed,
        )  # fmt: skip
        files = [
            write_recordings(answer, recipe.task_spec.returns, path / "outputs", number=number, shown="")
            for number, answer in enumerate(answers, start=1)
        ]
        counts = {name: len(part) for name, part in parts.items()}
        run.update(
            data={"source": source, "fingerprint": splits.fingerprint, "counts": counts, "notes": list(splits.notes)},
            metrics=metrics, engine=engine.name, processes=engine.world_size, reason="only predicts", status="finished",
            seconds=round(time.monotonic() - begun, 3),
        )  # fmt: skip
    engine.close()
    return Demonstration(run, examples, answers, files)
