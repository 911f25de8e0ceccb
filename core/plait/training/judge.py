"""How good are a model's predictions on a split? One pass of forwards, exact on any number of processes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from plait.engine.base import Engine
from plait.evaluation import Evaluator
from plait.model import Model, NeuralModel
from plait.options import TrainerOptions
from plait.task import Split, examples_at
from plait.trainer import StopRequested
from plait.training.batches import evaluation_batches, evaluation_shares, loader_processes


def judge(
    model: Model,
    engine: Engine,
    split: Split,
    evaluator: Evaluator,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    stop: Callable[[], str | None] = lambda: None,
) -> dict[str, float]:
    """Metrics of a split, with `loss` (mean over its terms) where the model has one.

    Args:
        evaluator: a fresh one; it has seen the whole split afterwards.
        batch_size: examples of one forward on one process.
        stop: asked before every forward; a reason ends the evaluation.

    Raises:
        StopRequested: `stop` gave a reason.
    """
    losses: list[tuple[float, int]] = []
    if isinstance(model, NeuralModel):
        engine.train(False)
        batches = evaluation_batches(
            split,
            model.processor,
            batch_size=batch_size,
            rank=engine.rank,
            world_size=engine.world_size,
            workers=loader_processes(workers, split),
            pin_memory=engine.device.type == "cuda",
        )
        with torch.no_grad():  # what a module keeps from inference mode (a cached mask) could not be trained with
            for examples, batch in batches:
                if stop():
                    raise StopRequested
                moved = engine.move(batch)
                output = engine.forward(moved)
                if output.loss is not None and batch.count:
                    losses.append((float(output.loss), batch.count))
                evaluator.update(model.predict_batch(moved, engine, output), examples)
        engine.train(True)
    else:
        for own in evaluation_shares(len(split), batch_size=batch_size, rank=engine.rank, world_size=engine.world_size):
            if stop():
                raise StopRequested
            chunk = examples_at(split, own)
            evaluator.update(model.predict(chunk) if own else [], chunk)
    evaluator.reduce(engine)
    metrics = evaluator.compute()
    every = [each for part in engine.gather(losses) for each in part]  # in the split's order, on any number of ranks
    count = sum(terms for _, terms in every)
    return {"loss": sum(loss * terms for loss, terms in every) / count, **metrics} if count else metrics


def forward_size(trainer: TrainerOptions) -> int:
    """Examples of one forward when judging what a trainer with these options fits."""
    given: int | None = getattr(trainer, "evaluation_batch_size", None)
    micro: int | None = getattr(trainer, "micro_batch_size", None) or getattr(trainer, "batch_size", None)
    return given or (2 * micro if micro else 256)
