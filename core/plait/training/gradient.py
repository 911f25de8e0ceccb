"""How is a network fitted by gradients? The loop: batches, accumulation, schedule, evaluation, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from plait.checkpoint import Checkpoint
from plait.engine.agreement import together
from plait.engine.base import Engine, StepResult
from plait.errors import DataError, NonFiniteError
from plait.model import Batch, Output
from plait.task import Split
from plait.trainer import Fit, Outcome, StopRequested, Trainer
from plait.training.batches import Order, loader_processes, training_batches
from plait.training.crossing import seen_together
from plait.training.flops import Arithmetic
from plait.training.optimization import GradientOptions, make_optimizer, schedule, set_learning_rate
from plait.training.selection import Selection


@dataclass(slots=True)
class Position:
    """Where the loop stands; with the engine's shards and the generators it is all that a resumed run needs.

    Args:
        step: optimizer steps done.
        examples: training examples (the processor's units) seen, on all ranks.
        skipped: steps in a row with a non-finite loss or gradient.
        loss, steps: the sum and number of step losses since the last log line.
        selection: the best evaluation.
    """

    step: int = 0
    examples: int = 0
    skipped: int = 0
    loss: float = 0.0
    steps: int = 0
    selection: Selection = field(default_factory=Selection)


@dataclass(slots=True)
class Pace:
    """How fast steps were since the last log line, evaluations and checkpoints left out. No checkpoint holds it.

    Args:
        seconds: of the steps.
        examples: that they saw, on all ranks.
        terms: that their losses averaged, on all ranks: tokens, where a batch counts them.
        operations: floating-point ones, on this rank.
        processes: how many there are; each is taken to do as much as this one.
        peak: operations a second that a process's device is made for; None: not known.
    """

    seconds: float = 0.0
    examples: int = 0
    terms: float = 0.0
    operations: float = 0.0
    processes: int = 1
    peak: float | None = None

    def add(self, seconds: float, examples: int, terms: float, operations: float = 0.0) -> None:
        """Count a step."""
        self.seconds, self.examples, self.terms = self.seconds + seconds, self.examples + examples, self.terms + terms
        self.operations += operations

    def take(self) -> dict[str, float]:
        """Rates, and begin anew; terms only where they are no examples."""
        each = max(self.seconds, 1e-9)
        speed = {"examples_per_second": round(self.examples / each, 3)}
        if self.terms != self.examples:
            speed["terms_per_second"] = round(self.terms / each, 3)
        if self.operations:
            speed["flops_per_second"] = round(self.operations / each * self.processes)
            if self.peak is not None:
                speed["utilisation"] = round(self.operations / each / self.peak, 4)
        self.seconds, self.examples, self.terms, self.operations = 0.0, 0, 0.0, 0.0
        return speed


class GradientTrainer(Trainer):
    """Fits a `NeuralModel` on any engine. It knows neither task nor device."""

    Options = GradientOptions
    options: GradientOptions

    def fit(self, fit: Fit) -> Outcome:
        options, model, engine, events = self.options, fit.model, fit.engine, fit.events
        with together(engine):
            units, order = self._order(fit)
        total = order.total_steps
        optimizer = make_optimizer(model, options)
        engine.setup(model, optimizer, clip=options.clip, average=options.average)
        at = self._resume(fit)
        events.started(step=at.step, total=total, unit="step")
        for note in seen_together(model, order, engine):
            events.warned(note)
        reason = self._evaluate(fit, order, at) if at.step else None  # an evaluation that a stop had cut off
        batches: Iterator[list[Batch]] = training_batches(
            units, model.processor, order, start=at.step,
            workers=loader_processes(options.workers, units), pin_memory=engine.device.type == "cuda",
        )  # fmt: skip
        engine.train()
        pace, arithmetic = Pace(processes=engine.world_size, peak=engine.peak), Arithmetic()
        micro_batches, terms = _draw(batches, engine)
        while reason is None and at.step < total:
            begun, seen = time.perf_counter(), at.examples
            factor = schedule(at.step, total=total, steps_per_epoch=order.steps_per_epoch, options=options)
            set_learning_rate(optimizer, options.learning_rate * factor)
            parts: list[float] = []
            for batch in micro_batches:
                with arithmetic.counting(batch):
                    output = engine.forward(engine.move(batch))
                if output.loss is None:
                    raise RuntimeError(f"{type(model).__name__}.forward gave no loss for a batch of training examples")
                parts.append(batch.count / max(1, terms()))  # of the global batch's mean
                loss = output.loss if batch.count else _weightless(output)
                engine.backward(loss, scale=parts[-1] * engine.world_size)  # engines average over ranks
            result = engine.step()
            own = sum(loss * part for loss, part in zip(result.losses, parts, strict=True))
            self._advance(fit, order, at, own, result)
            done = at.examples - seen, terms(), sum(arithmetic.of(batch) for batch in micro_batches)
            # one message a step tells this one's loss, the next one's terms, and who asks to stop
            total_loss = engine.later(own)
            micro_batches, terms = _draw(batches, engine)
            asked = fit.stop()
            if result.applied:
                at.loss, at.steps = at.loss + total_loss(), at.steps + 1
            pace.add(time.perf_counter() - begun, *done)
            if at.step % options.log_every == 0 or at.step in (1, total):
                self._log(fit, order, at, result, options.learning_rate * factor, pace.take())
            reason = self._evaluate(fit, order, at) or asked
            if at.selection.judged == at.step:  # which has taken its time, and saved
                reason = reason or fit.stop()
            elif reason is None and options.save_every and at.step % options.save_every == 0:
                self._save(fit, at)
        if reason in ("time", "signal") and at.selection.judged != at.step:
            self._save(fit, at)
        best = self._select(fit, at) if reason != "signal" else at.step
        return Outcome(reason or "done", at.step, at.examples, best)

    def _order(self, fit: Fit) -> tuple[Split, Order]:
        """What an epoch visits, and in which order."""
        options, model, engine = self.options, fit.model, fit.engine
        units = model.processor.units(fit.train)
        if not len(units):
            raise DataError(
                f"{model.options.name} finds nothing to learn in the {len(fit.train)} training examples",
                hint="see what the model needs of an example: plait show MODEL",
            )
        return units, Order(
            examples=len(units), epochs=options.epochs, max_steps=options.max_steps, seed=fit.seed,
            batch_size=options.batch_size, micro_batch_size=options.micro_batch_size,
            rank=engine.rank, world_size=engine.world_size, lengths=model.processor.lengths(units),
        )  # fmt: skip

    def _advance(self, fit: Fit, order: Order, at: Position, loss: float, result: StepResult) -> None:
        """Count the step, of which this rank's part of the loss is known; stop the run after too many that could not be
        applied."""
        start = at.step % order.steps_per_epoch * order.batch_size
        at.examples += min(order.batch_size, order.examples - start)
        at.step += 1
        if result.applied or result.scaler_overflow:
            at.skipped = 0
        else:
            at.skipped += 1
            fit.events.warned(f"step {at.step}: the loss or a gradient is not finite; the step was skipped")
        fit.events.stepped(at.step)
        if at.skipped > self.options.max_skipped_steps:
            finite = fit.engine.gather(math.isfinite(loss))
            ranks = [rank for rank, good in enumerate(finite) if not good] or list(range(len(finite)))
            what = "the gradient" if all(finite) else "the loss"
            raise NonFiniteError(
                f"step {at.step}: {what} is not finite on rank {', '.join(map(str, ranks))}; training stops here",
                hint="train anew with a lower trainer.learning_rate or trainer.clip; or pass over it: --resume with a "
                "larger trainer.max_skipped_steps goes on from the last checkpoint, which is good",
            )
        if at.skipped:
            self._refuse_spoilt_buffers(fit, at)

    def _refuse_spoilt_buffers(self, fit: Fit, at: Position) -> None:
        """A skipped step leaves the parameters as they were, but its forward may have put NaN into running statistics,
        and no later step takes it out again."""
        own = [name for name, buffer in fit.model.named_buffers() if buffer.isnan().any()]
        spoilt = sorted({name for names in fit.engine.gather(own) for name in names})
        if spoilt:
            raise NonFiniteError(
                f"step {at.step}: {', '.join(spoilt[:5])} became NaN in the forward; training stops here",
                hint="look for non-finite inputs, or lower trainer.learning_rate; "
                "the last checkpoint is good and --resume goes on from it",
            )

    def _log(
        self, fit: Fit, order: Order, at: Position, result: StepResult, rate: float, speed: dict[str, float]
    ) -> None:
        metrics = {"epoch": at.step / order.steps_per_epoch, "learning_rate": rate}
        if at.steps:
            metrics["loss"] = at.loss / at.steps
        if result.gradient_norm is not None:
            metrics["gradient_norm"] = float(result.gradient_norm)
        at.loss, at.steps = 0.0, 0
        fit.events.logged(at.step, metrics, speed)

    def _evaluate(self, fit: Fit, order: Order, at: Position) -> str | None:
        """Evaluate and save where it is time to; the reason to stop, if there is one."""
        every = self.options.evaluate_every or order.steps_per_epoch
        if (at.step % every and at.step != order.total_steps) or at.selection.judged == at.step:
            return "patience" if at.selection.exhausted(self.options.patience) else None
        if fit.evaluate is not None:
            try:
                with fit.engine.averaged():
                    metrics = fit.evaluate()
            except StopRequested:
                return fit.stop() or "signal"
            at.selection.add(at.step, metrics, fit.primary)
            fit.events.evaluated(at.step, "valid", metrics)
        else:
            at.selection.judged = at.step
        self._save(fit, at)
        return "patience" if at.selection.exhausted(self.options.patience) else None

    def _save(self, fit: Fit, at: Position) -> None:
        state = asdict(at) | {"logs": dict(fit.events.position())}
        keep = () if at.selection.step is None else (at.selection.step,)
        fit.checkpoints.save(at.step, state, fit.engine.copy_shards, keep=keep)

    def _resume(self, fit: Fit) -> Position:
        checkpoint: Checkpoint | None = fit.checkpoints.newest()
        if checkpoint is None:
            fit.events.rewind({})
            return Position()
        state: dict[str, Any] = dict(checkpoint.state)
        fit.events.rewind(state.pop("logs"))
        fit.engine.load_shards(checkpoint.path)
        fit.checkpoints.restore_generators(checkpoint)
        return Position(**{**state, "selection": Selection(**state["selection"])})

    def _select(self, fit: Fit, at: Position) -> int:
        """Leave the model with the weights that the options ask for; the step that they are from."""
        best = at.selection.step
        if self.options.select == "last" or best is None or best == at.step:
            return at.step
        fit.engine.load_shards(fit.checkpoints.chosen(best).path)
        return best


def _draw(batches: Iterator[list[Batch]], engine: Engine) -> tuple[Iterable[Batch], Callable[[], float]]:
    """This rank's micro-batches of the next step (none after the last), and how many terms the losses of all ranks'
    average, for when that is asked for. What could not be read is an error once it is wanted: the step before is still
    to be saved."""
    try:
        micro_batches = next(batches, [])
    except Exception as error:
        return _unreadable(error), engine.later(0)
    return micro_batches, engine.later(sum(batch.count for batch in micro_batches))


def _unreadable(error: Exception) -> Iterator[Batch]:
    raise error
    yield


def _weightless(output: Output) -> torch.Tensor:
    """The loss of an idle rank (its batch is borrowed, or without a term): zero, and yet through every layer that other
    ranks' losses go through, since some wait for all ranks in the backward. A loss without terms may be NaN; then the
    logits must do."""
    loss = output.loss
    return (loss if loss is not None and bool(loss.isfinite()) else output.logits.sum()) * 0.0
