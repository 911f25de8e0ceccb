"""How is a model fitted that has no gradients: by EM, alternating least squares, or in closed form?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from plait.checkpoint import Checkpoint
from plait.errors import NonFiniteError
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
    select: Literal["best", "last"] = "last"
    """Which state the run ends with: the best on `valid` of those evaluated, or the last."""


class IterativeTrainer(Trainer):
    """Fits an `IterativeModel`: events, checkpoints and resume as in the gradient trainer."""

    Options = IterativeOptions
    options: IterativeOptions

    def fit(self, fit: Fit) -> Outcome:
        options, events = self.options, fit.events
        model: IterativeModel = fit.model
        data = _own_part(fit.train, fit.engine.rank, fit.engine.world_size)
        iteration, converged, selection, state = self._resume(fit)
        if state is None:
            state = model.start(data, fit.engine)
        else:
            model.finish(state)
        events.started(step=iteration, total=options.iterations, unit="iteration")
        reason = "converged" if converged else "patience" if selection.exhausted(options.patience) else None
        while reason is None and iteration < options.iterations:
            state, progress = model.step(data, state, fit.engine)
            iteration += 1
            bad = [name for name, tensor in state.tensors.items() if tensor.isnan().any()]
            if bad:
                raise NonFiniteError(
                    f"iteration {iteration}: {', '.join(bad)} of the model became NaN; the fit stops here",
                    hint="the last checkpoint is good; look for constant or non-finite training data",
                )
            events.stepped(iteration)
            events.logged(iteration, progress.metrics)
            reason = "converged" if progress.converged else fit.stop()
            last = reason in ("converged", "time") or iteration == options.iterations
            if fit.evaluate is not None and (
                last or (options.evaluate_every and not iteration % options.evaluate_every)
            ):
                model.finish(state)
                try:
                    metrics = fit.evaluate()
                except StopRequested:
                    reason = fit.stop() or "signal"
                else:
                    selection.add(iteration, metrics, fit.primary)
                    events.evaluated(iteration, "valid", metrics)
                    if reason is None and selection.exhausted(options.patience):
                        reason = "patience"
            if reason or iteration == options.iterations or not iteration % (options.save_every or 1):
                self._save(fit, iteration, progress.converged, selection, state)
        best = iteration
        if options.select == "best" and selection.step is not None and reason != "signal":
            best = selection.step
            state = _read_state(fit.checkpoints.at(best))
        model.finish(state)
        return Outcome(reason or "done", iteration, iteration * len(fit.train), best)

    def _save(self, fit: Fit, iteration: int, converged: bool, selection: Selection, state: State) -> None:
        def write(directory: Path) -> None:
            if fit.engine.rank == 0:
                save_tensors(state.tensors, directory / "state.safetensors")
                (directory / "state.json").write_text(json.dumps(dict(state.values)), encoding="utf-8")

        position: dict[str, Any] = {
            "converged": converged,
            "selection": selection.as_json(),
            "logs": dict(fit.events.position()),
        }
        keep = () if selection.step is None else (selection.step,)
        fit.events.saved(iteration, fit.checkpoints.save(iteration, position, write, keep=keep))

    def _resume(self, fit: Fit) -> tuple[int, bool, Selection, State | None]:
        checkpoint = fit.checkpoints.newest()
        if checkpoint is None:
            fit.events.rewind({})
            return 0, False, Selection(), None
        fit.events.rewind(checkpoint.state["logs"])
        fit.checkpoints.restore_generators(checkpoint)
        selection = Selection(**checkpoint.state["selection"])
        return checkpoint.step, checkpoint.state["converged"], selection, _read_state(checkpoint)


def _read_state(checkpoint: Checkpoint) -> State:
    values = json.loads((checkpoint.path / "state.json").read_text(encoding="utf-8"))
    return State(load_tensors(checkpoint.path / "state.safetensors"), values)


def _own_part(split: Split, rank: int, world_size: int) -> Split:
    return split if world_size == 1 else select(split, range(rank, len(split), world_size))
