"""How is a model fitted that has no gradients: by EM, alternating least squares, or in closed form?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from plait.checkpoint import Checkpoint
from plait.errors import NonFiniteError
from plait.evaluation import share
from plait.model import IterativeModel, State
from plait.options import RESUME, TrainerOptions
from plait.task import Split, select
from plait.trainer import Fit, Outcome, StopRequested, Trainer
from plait.training.selection import Selection
from plait.weights import load_tensors, save_tensors


class IterativeOptions(TrainerOptions):
    """The recipe's `trainer` block for models fitted by iteration."""

    iterations: int = Field(default=100, ge=1, json_schema_extra=RESUME)
    """Iterations at most; the model may converge before."""
    evaluate_every: int | None = Field(default=None, ge=1)
    """Iterations between evaluations on `valid`; None: only after the last."""
    save_every: int | None = Field(default=None, ge=1, json_schema_extra=RESUME)
    """Iterations between checkpoints; None: after each."""
    select: Literal["best", "last"] = Field(default="last", json_schema_extra=RESUME)
    """Which state the run ends with: the best on `valid` of those evaluated, or the last."""


@dataclass(slots=True)
class Position:
    """Where the fit stands; it is all that a resumed run needs.

    Args:
        state: the model's own, after `iteration` iterations.
        converged: whether the last of them ended the fit.
        selection: the best evaluation.
    """

    state: State
    iteration: int = 0
    converged: bool = False
    selection: Selection = field(default_factory=Selection)


class IterativeTrainer(Trainer):
    """Fits an `IterativeModel`: events, checkpoints and resume as in the gradient trainer."""

    Options = IterativeOptions
    options: IterativeOptions

    def fit(self, fit: Fit) -> Outcome:
        options, events = self.options, fit.events
        model: IterativeModel = fit.model
        data = _own_part(fit.train, fit.engine.rank, fit.engine.world_size)
        at = self._resume(fit) or Position(model.start(data, fit.engine))
        events.started(step=at.iteration, total=options.iterations, unit="iteration")
        reason = self._evaluate(fit, at) if at.iteration else None  # an evaluation that a stop had cut off
        while reason is None and not at.converged and at.iteration < options.iterations:
            at.state, progress = model.step(data, at.state, fit.engine)
            at.iteration, at.converged = at.iteration + 1, progress.converged
            bad = [name for name, tensor in at.state.tensors.items() if tensor.isnan().any()]
            if bad:
                raise NonFiniteError(
                    f"iteration {at.iteration}: {', '.join(bad)} of the model became NaN; the fit stops here",
                    hint="the last checkpoint is good; look for constant or non-finite training data",
                )
            events.stepped(at.iteration)
            events.logged(at.iteration, progress.metrics)
            reason = self._evaluate(fit, at) or (None if at.converged else fit.stop())
            last = at.converged or at.iteration == options.iterations
            saved = at.selection.judged == at.iteration  # an evaluation saves
            if not saved and (reason or last or not at.iteration % (options.save_every or 1)):
                self._save(fit, at)
        best = at.iteration
        if options.select == "best" and at.selection.step is not None and reason != "signal":
            best = at.selection.step
            at.state = _read_state(fit.checkpoints.chosen(best))
        model.finish(at.state)
        return Outcome(
            reason or ("converged" if at.converged else "done"), at.iteration, at.iteration * len(fit.train), best
        )

    def _evaluate(self, fit: Fit, at: Position) -> str | None:
        """Evaluate and save where it is time to and not done yet; the reason to stop, if there is one."""
        every = self.options.evaluate_every
        due = at.converged or at.iteration == self.options.iterations or (every and not at.iteration % every)
        if fit.evaluate is not None and due and at.selection.judged != at.iteration:
            fit.model.finish(at.state)
            try:
                metrics = fit.evaluate()
            except StopRequested:
                return fit.stop() or "signal"
            at.selection.add(at.iteration, metrics, fit.primary)
            fit.events.evaluated(at.iteration, "valid", metrics)
            self._save(fit, at)
        return "patience" if at.selection.exhausted(self.options.patience) and not at.converged else None

    def _save(self, fit: Fit, at: Position) -> None:
        def copy() -> _Saved:
            if fit.engine.rank:
                return _Saved()
            kept = {name: tensor.clone() for name, tensor in at.state.tensors.items()}  # a model may work in place
            return _Saved(State(kept, json.loads(json.dumps(dict(at.state.values)))))

        position: dict[str, Any] = {
            "converged": at.converged,
            "selection": at.selection.as_json(),
            "logs": dict(fit.events.position()),
        }
        keep = () if at.selection.step is None else (at.selection.step,)
        fit.checkpoints.save(at.iteration, position, copy, keep=keep)

    def _resume(self, fit: Fit) -> Position | None:
        checkpoint = fit.checkpoints.newest()
        if checkpoint is None:
            fit.events.rewind({})
            return None
        fit.events.rewind(checkpoint.state["logs"])
        fit.checkpoints.restore_generators(checkpoint)
        selection = Selection(**checkpoint.state["selection"])
        return Position(_read_state(checkpoint), checkpoint.step, checkpoint.state["converged"], selection)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What one rank writes of a checkpoint: rank 0 the state, the others nothing."""

    state: State | None = None

    @property
    def size(self) -> int:
        return 0 if self.state is None else sum(tensor.nbytes for tensor in self.state.tensors.values())

    def write(self, directory: Path) -> None:
        if self.state is not None:
            save_tensors(self.state.tensors, directory / "state.safetensors")
            (directory / "state.json").write_text(json.dumps(dict(self.state.values)), encoding="utf-8")


def _read_state(checkpoint: Checkpoint) -> State:
    values = json.loads((checkpoint.path / "state.json").read_text(encoding="utf-8"))
    return State(load_tensors(checkpoint.path / "state.safetensors"), values)


def _own_part(split: Split, rank: int, world_size: int) -> Split:
    return split if world_size == 1 else select(split, share(len(split), rank=rank, world_size=world_size))
