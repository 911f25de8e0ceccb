"""How does a recipe become a finished run?"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from plait.artifact import save_model
from plait.baselines import fit_baseline
from plait.checkpoint import Checkpoints
from plait.config import Recipe
from plait.engine.agreement import agree, on_first
from plait.engine.base import Engine
from plait.engine.ending import losses_named
from plait.engine.world import World
from plait.errors import DataError, Interrupted, LostRankError, PlaitError, RecipeError, StorageError
from plait.lock import locked
from plait.logs import Display, Listeners, Nobody, Unheard, log_file
from plait.model import IterativeModel, Model, NeuralModel
from plait.preparing import Prepared, make_engine, refuse_mixtures
from plait.randomness import set_seed
from plait.records import read_history, save_predictions
from plait.report import write_report
from plait.run import Run, check_free, create_run, new_directory, record_end, resume_command, status_kept
from plait.sealed import storage
from plait.signals import StopSignals
from plait.task import Problem, Splits, Task
from plait.trainer import Events, Fit, Outcome, StopRequested, Trainer
from plait.training.judge import forward_size, judge
from plait_registry.registry import Registry
from plait_registry.targets import describe

if TYPE_CHECKING:
    from plait.evaluation import Evaluator

logger = logging.getLogger("plait")

_REASONS = (None, "time", "signal", "save")
"""Why a fit stops early, weakest first; "save": a checkpoint that was written meanwhile has failed, which is raised."""


def fit_recipe(
    recipe: Recipe, registry: Registry, *, data: Any = None, resume: bool = False, display: Display | None = None
) -> Run:
    """Train, evaluate and report; the run directory holds everything.

    Args:
        data: a source given from Python, where the recipe's `data.source` is None.
        resume: go on from the newest checkpoint where there is one.
        display: shows progress.

    Raises:
        PlaitError: what the user can mend, before anything is lost.
        Interrupted: a signal ended it, with a checkpoint.
    """
    if recipe.trainer_type is None:
        raise RecipeError(
            f"model {recipe.model_options.name} only predicts; there is nothing to train",
            hint=f"`plait run {recipe.task.name} --model {recipe.model_options.name}` judges it",
        )
    if (recipe.engine.processes > 1 or recipe.engine.hosts) and World.find().size == 1:
        from plait.engine.launch import launch

        return launch(recipe, registry, data=data, resume=resume, shown=display is not None)
    torch.set_num_threads(recipe.engine.threads or torch.get_num_threads())
    engine = make_engine(recipe, registry)
    try:
        with losses_named(engine):
            refuse_mixtures(engine, recipe)
            return _fit_on(engine, recipe, registry, data=data, resume=resume, display=display)
    finally:
        engine.close()


def _fit_on(
    engine: Engine, recipe: Recipe, registry: Registry, *, data: Any, resume: bool, display: Display | None
) -> Run:
    """Fit on this engine; rank 0 alone looks after the run directory, and the others hear what becomes of it."""

    def place() -> tuple[str, bool]:
        given = recipe.output.directory
        path = Path(given) if given else new_directory(Path("runs"), recipe.task.name, recipe.model_options.name)
        return str(path), check_free(path, resume=resume) and _reopened(path, recipe).status == "finished"

    def begin() -> bool:
        run = _reopened(path, recipe) if check_free(path, resume=resume) else create_run(path, recipe, registry)
        return run.status == "finished"  # by another process, while this one read the data

    name, finished = on_first(engine, place)
    path = Path(name)
    if finished:
        return Run.open(path)
    # what the user can mend is found before anything is written
    prepared = Prepared.make(recipe, registry, data, engine)
    first = engine.rank == 0
    with contextlib.ExitStack() as held:
        on_first(engine, lambda: held.enter_context(locked(path)))
        signals = held.enter_context(StopSignals(recipe.trainer.max_time))
        if on_first(engine, begin):
            return Run.open(path)
        run = Run.open(path)
        run.writes = first
        on_first(engine, lambda: held.enter_context(log_file(path / "log.txt")))
        held.enter_context(status_kept(run) if first else _last_word(path))
        held.enter_context(losses_named(engine))
        _Fitting(recipe, registry, run, prepared, display if first else None, signals).carry_out()
    return run


@contextlib.contextmanager
def _last_word(path: Path) -> Iterator[None]:
    """On ranks above 0: where rank 0 is lost, one of those that are left says so in run.json."""
    try:
        yield
    except LostRankError as error:
        record_end(path, error)
        raise


def _reopened(path: Path, recipe: Recipe) -> Run:
    run = Run.open(path)
    recipe.refuse_changes(run.recipe())
    return run


class _Fitting:
    """One carrying-out of a recipe: fit, judge, save, report, in this order."""

    def __init__(
        self,
        recipe: Recipe,
        registry: Registry,
        run: Run,
        prepared: Prepared,
        display: Display | None,
        signals: StopSignals,
    ) -> None:
        self._recipe, self._registry, self._run = recipe, registry, run
        self._display, self._signals = display, signals
        self._notes = list(prepared.notes)
        self._prepared = prepared
        self._first = prepared.engine.rank == 0
        self._begun = time.monotonic()
        self._checkpoints: Checkpoints | None = None

    def carry_out(self) -> None:
        made, run = self._prepared, self._run
        self._record_data(made.splits, made.source)
        run.update(engine=made.engine.name, processes=made.engine.world_size, device=str(made.engine.device))
        for note in self._notes if self._first else ():
            logger.warning(note)
        set_seed(self._recipe.seed, rank=made.engine.rank)  # dropout starts here, whatever creating the model drew
        tensorboard = self._recipe.output.tensorboard
        listeners = (
            Listeners(run.path, self._registry, display=self._display, tensorboard=tensorboard)
            if self._first
            else Nobody()
        )
        status = "failed"
        try:
            outcome = self._fit(made.task, made.model, made.problem, made.splits, made.engine, listeners)
            if outcome is not None and outcome.reason == "signal":
                status = "interrupted"
                self._interrupted(outcome)
            try:
                with made.engine.averaged():
                    self._finish(made.task, made.model, made.problem, made.splits, made.engine, outcome, listeners)
            except StopRequested:
                status = "interrupted"
                self._interrupted(outcome)
            status = run.status
        finally:
            listeners.fit_ended(status)

    def _record_data(self, splits: Splits, source: str) -> None:
        info = self._run.info.get("data")
        if info and info["fingerprint"] != splits.fingerprint:
            raise DataError(
                f"the data of {self._run.path} have changed since the run was started",
                hint="put them back, or train anew with another --out",
            )
        counts = {name: len(part) for name in splits.names() if (part := splits[name]) is not None}
        data = {"source": source, "fingerprint": splits.fingerprint, "counts": counts, "notes": list(splits.notes)}
        if splits.index is not None:
            import pyarrow.parquet as pq

            def write() -> None:
                with storage(f"{self._run.path / 'splits.parquet'}: could not be written"):
                    pq.write_table(splits.index, self._run.path / "splits.parquet")

            on_first(self._prepared.engine, write)
        self._run.update(data=data)

    def _fit(
        self, task: Task, model: Model, problem: Problem, splits: Splits, engine: Engine, listeners: Listeners | Nobody
    ) -> Outcome | None:
        recipe = self._recipe
        listeners.fit_started(recipe.as_json())
        checkpoints = self._open_checkpoints("checkpoints", listeners)
        valid = splits.valid
        if splits.train is None or not len(splits.train):
            assert isinstance(model, NeuralModel)  # only the gradient trainer has epochs=0
            engine.setup(model, None, clip=None, average=None)
            return None

        def evaluate() -> dict[str, float]:
            assert valid is not None
            return judge(
                model, engine, valid, task.evaluator(problem, valid),
                batch_size=forward_size(recipe.trainer), workers=recipe.trainer.workers, stop=self._reason,
            )  # fmt: skip

        assert recipe.trainer_type is not None
        return self._fitted(
            recipe.trainer_type(recipe.trainer),
            Fit(
                model=model, engine=engine, train=splits.train, seed=recipe.seed,
                evaluate=evaluate if valid is not None and len(valid) else None,
                primary=recipe.task_spec.primary_metric, checkpoints=checkpoints, events=listeners,
                stop=self._reason,
            ),
        )  # fmt: skip

    def _open_checkpoints(self, folder: str, events: Events) -> Checkpoints:
        trainer = self._recipe.trainer
        self._checkpoints = Checkpoints(
            self._run.path / folder, engine=self._prepared.engine, keep_last=trainer.keep_last,
            background=trainer.save_in_background, warn=logger.warning, saved=events.saved,
        )  # fmt: skip
        self._checkpoints.clear_leftovers()
        return self._checkpoints

    def _fitted(self, trainer: Trainer, fit: Fit) -> Outcome:
        """Fit; the last checkpoint is on disk after it."""
        try:
            outcome = trainer.fit(fit)
        except BaseException:
            fit.checkpoints.close()
            raise
        fit.checkpoints.settle()
        return outcome

    def _reason(self) -> str | None:
        """Why to stop, the same on every rank: signals and clocks arrive at different moments. Collective.

        Raises:
            StorageError: a checkpoint could not be written in the background.
        """
        engine, own = self._prepared.engine, self._signals.reason()
        if self._checkpoints is not None and self._checkpoints.poll():
            own = "save"
        if engine.world_size > 1:
            own = _REASONS[int(engine.reduce(float(_REASONS.index(own)), "max"))]
        if own == "save":
            assert self._checkpoints is not None
            self._checkpoints.settle()
        return own

    def _signalled(self) -> str | None:
        # the time limit ends a fit, not what comes after it
        return "signal" if self._reason() == "signal" else None

    def _heed(self) -> None:
        if self._signalled():
            raise StopRequested

    def _interrupted(self, outcome: Outcome | None) -> None:
        number = next((each for each in self._prepared.engine.gather(self._signals.received) if each), 2)
        stopped = Interrupted(
            f"interrupted after step {outcome.steps if outcome else 0}; a checkpoint is saved in {self._run.path}",
            hint=f"go on with: {resume_command(self._run.path)}",
            signal=number,
        )
        agree(self._prepared.engine, stopped)

    def _finish(
        self,
        task: Task,
        model: Model,
        problem: Problem,
        splits: Splits,
        engine: Engine,
        outcome: Outcome | None,
        listeners: Listeners | Nobody,
    ) -> None:
        """Judge the final model, save it, fit the baselines, write the report, and only then call the run finished."""
        recipe, run = self._recipe, self._run
        metrics: dict[str, dict[str, float]] = {}
        intervals: dict[str, Any] = {}
        shown: Evaluator | None = None  # the report shows the last split judged: test where there is one

        def judge_split(name: str) -> None:
            nonlocal shown
            split = splits[name]
            if split is None or not len(split):
                return
            shown = task.evaluator(problem, split)
            metrics[name] = judge(
                model, engine, split, shown,
                batch_size=forward_size(recipe.trainer), workers=recipe.trainer.workers, stop=self._signalled,
            )  # fmt: skip
            listeners.judged(outcome.steps if outcome else 0, name, metrics[name])
            intervals[name] = on_first(engine, partial(save_predictions, run.path, name, shown, seed=recipe.seed))

        judge_split("valid")
        again = outcome is not None and outcome.reason != "time" and self._refit(model, splits, engine, outcome)
        save_model(
            run.path / "model", model, task=recipe.task, entry=recipe.model, problem=problem,
            data=recipe.data.as_json() | {"source": None, "limit": None}, seed=recipe.seed, engine=engine,
        )  # fmt: skip
        judge_split("test")
        baselines = self._baselines(task, problem, splits) if recipe.output.baselines else {}
        engine.barrier()  # without the limit of a step: rank 0 has fitted the baselines alone
        seconds = round(run.info.get("seconds", 0.0) + time.monotonic() - self._begun, 3)
        stopped = outcome is not None and outcome.reason == "time"
        status = "stopped" if stopped else "finished"
        if stopped:
            self._notes.append(f"stopped by trainer.max_time after step {outcome.steps}" if outcome else "")
        primary = recipe.task_spec.primary_metric
        run.info.update(
            metrics=metrics, intervals={name: each for name, each in intervals.items() if each}, baselines=baselines,
            seconds=seconds, notes=self._notes, steps=outcome.steps if outcome else 0,
            best_step=outcome.best_step if outcome else None, reason=outcome.reason if outcome else "given weights",
            primary=None if primary is None else primary._asdict(), refit=again,
        )  # fmt: skip
        self._heed()
        if recipe.output.report:
            document = {**run.info, "status": status, "recipe": recipe.as_json(), "run": str(run.path)}
            on_first(engine, lambda: self._report(document, shown))
        self._heed()
        run.update(status=status)

    def _refit(self, model: Model, splits: Splits, engine: Engine, outcome: Outcome) -> bool:
        """Fit the model once more, on `Splits.refit`, for as many iterations as it was fitted for; whether it was.

        It has checkpoints of its own, so that a resumed run ends with the same model; logs are of the first fit only.

        Raises:
            StopRequested: a signal came; what was done is in a checkpoint.
        """
        recipe = self._recipe
        if splits.refit is None or not isinstance(model, IterativeModel):
            return False
        events = Unheard() if self._first else Nobody()
        checkpoints = self._open_checkpoints("checkpoints/refit", events)
        assert recipe.trainer_type is not None
        steps = {"iterations": outcome.best_step or outcome.steps}
        known = {name: value for name, value in steps.items() if name in type(recipe.trainer).model_fields}
        again = self._fitted(
            recipe.trainer_type(recipe.trainer.model_copy(update={**known, "max_time": None})),
            Fit(
                model=model, engine=engine, train=splits.refit, seed=recipe.seed, evaluate=None, primary=None,
                checkpoints=checkpoints, events=events, stop=self._signalled,
            ),
        )  # fmt: skip
        if again.reason == "signal":
            raise StopRequested
        self._notes.append("fitted once more on train and valid after valid was judged: test and the saved model")
        return True

    def _report(self, document: Mapping[str, Any], shown: Evaluator | None) -> None:
        try:
            with storage(f"{self._run.path / 'report.html'}: the report could not be written"):
                history = read_history(self._run.path)
                write_report(self._run.path, document, history, shown.sections() if shown else [])
        except StorageError:
            raise
        except Exception as error:  # a picture that cannot be drawn must not cost a fitted model
            self._notes.append(f"no report: {describe(error)}")
            logger.warning(self._notes[-1], exc_info=True)

    def _baselines(self, task: Task, problem: Problem, splits: Splits) -> dict[str, dict[str, dict[str, float]]]:
        """Fit the task's baselines on the same data, in memory, and judge them: on rank 0."""
        results: dict[str, dict[str, dict[str, float]]] = {}
        recipe = self._recipe
        if splits.train is None or not len(splits.train) or not self._first:
            return results

        def signalled() -> str | None:
            return "signal" if self._signals.received else None

        for name in recipe.task_spec.baselines:
            if name == recipe.model_options.name:
                continue
            try:
                results[name] = fit_baseline(name, recipe, self._registry, task, problem, splits, signalled)
            except StopRequested:
                return results  # `_heed` ends the run, on every rank
            except Exception as error:  # another plugin's fault must not cost a fitted model its report
                said = error.message if isinstance(error, PlaitError) else describe(error)
                self._notes.append(f"baseline {name}: {said}")
                logger.warning(self._notes[-1], exc_info=not isinstance(error, PlaitError))
        return results
