"""Does fitting make a model better at what it is fitted on?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plait.engine.base import Engine
from plait.model import Batch, IterativeModel, Key, NeuralModel
from plait.preparing import create_model, make_engine
from plait.testing.verdicts import Failed, Skipped, require
from plait.training.optimization import GradientOptions, make_optimizer

if TYPE_CHECKING:
    from plait.task import Split
    from plait.testing.cases import Trial

HANDFUL = 8  # examples
STEPS = 300
FRACTION = 0.2
"""A handful of examples is learnt by heart when their loss falls to this part of what it was, within STEPS steps."""

RISING = ("log_likelihood", "log_posterior", "elbo")
FALLING = ("loss",)
"""What an iterative fit logs as `Progress.metrics`, where it must not become worse from one step to the next."""


def learns(trial: Trial) -> None:
    """Gradients learn a handful of examples by heart; iterations never lose what they gain and beat chance."""
    if not trial.fitted:
        raise Skipped("the model only predicts (trainer=None in its spec)")
    model = trial.model
    if isinstance(model, NeuralModel):
        _overfits(trial)
    elif isinstance(model, IterativeModel):
        _progresses(trial)
        _beats_chance(trial)
    else:
        raise Skipped(f"fitted by {trial.model_spec.trainer!r}, whose way of learning this suite does not know")


def _overfits(trial: Trial) -> None:
    recipe = trial.recipe(trial.directory)
    engine = make_engine(recipe, trial.registry)
    model: Any = create_model(recipe, trial.problem, trial.splits, engine, None)
    units = model.processor.units(trial.train)
    indices = np.linspace(0, len(units) - 1, min(HANDFUL, len(units))).astype(int)
    keys = [Key(0, 0, int(index)) for index in indices]
    batch = engine.move(model.processor.collate([units[key.index] for key in keys], keys, training=False))
    options = recipe.trainer if isinstance(recipe.trainer, GradientOptions) else GradientOptions()
    options = options.model_copy(update={"weight_decay": 0.0, "l1": 0.0, "l2": 0.0})
    engine.setup(model, make_optimizer(model, options), clip=options.clip, average=None)
    first = now = _loss(engine, batch)
    for step in range(1, STEPS + 1):
        engine.train()
        loss = engine.forward(batch).loss
        assert loss is not None  # `_loss` has looked
        engine.backward(loss, scale=1.0)
        applied = engine.step().applied
        require(applied, f"step {step}: the loss or a gradient is not finite", expected="finite numbers")
        if step % 10 == 0 and (now := _loss(engine, batch)) < FRACTION * first:
            return
    raise Failed(
        f"the loss on {len(keys)} training examples went from {first:.4g} to {now:.4g} in {STEPS} steps; expected: "
        f"below {FRACTION * first:.4g}. Does the loss reach every parameter (no detach, no .data)? Do inputs and "
        "targets belong together? Is 'trainer.learning_rate' right (ModelSpec.defaults, or the conformance variant)?"
    )


def _loss(engine: Engine, batch: Batch) -> float:
    """The loss in evaluation mode, without dropout and label smoothing."""
    engine.train(False)
    with torch.no_grad():
        output = engine.forward(batch)
    if output.loss is None:
        raise Failed("forward gave no loss for labelled examples; expected: Output(loss=...) where a batch has targets")
    return float(output.loss)


def _progresses(trial: Trial) -> None:
    lines = [json.loads(line) for line in (trial.run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    logged = [line["metrics"] for line in lines if line["split"] == "train"]
    if len(logged) < 2:
        require(
            trial.run.info["reason"] == "converged",
            f"one step was fitted, and the run ended with {trial.run.info['reason']!r}",
            expected="a closed form says so: Progress(metrics, converged=True)",
        )
        return
    names = [name for name in (*RISING, *FALLING) if name in logged[0]]
    require(
        bool(names),
        f"a fit of {len(logged)} steps logs {', '.join(logged[0]) or 'nothing'}",
        expected=f"Progress.metrics has one of {', '.join((*RISING, *FALLING))}, so that progress can be seen",
    )
    for name in names:
        sign = 1 if name in RISING else -1
        values = [math.nan if each.get(name) is None else sign * each[name] for each in logged]
        for step, (before, after) in enumerate(pairwise(values), start=2):
            require(
                after >= before - 1e-6 * abs(before),
                f"{name} went from {sign * before!r} to {sign * after!r} in step {step}",
                expected=f"a fit whose {name} never {'falls' if sign > 0 else 'rises'}: a step must not lose what it "
                "reports (with priors, floors or penalties that is the log_posterior or the loss)",
            )


def _beats_chance(trial: Trial) -> None:
    """Predictions fit their own examples better than examples drawn at random."""
    primary, split = trial.task_spec.primary_metric, _judged(trial)
    if primary is None:
        return
    examples = [split[index] for index in range(len(split))]
    predictions = trial.model.predict(examples)
    order = np.random.default_rng(0).permutation(len(examples))
    own, others = (_score(trial, split, given) for given in (predictions, [predictions[index] for index in order]))
    better = own > others if primary.higher_is_better else own < others
    require(
        better,
        f"{primary.name} is {own:.4g}, and {others:.4g} where every example gets another one's prediction",
        expected="a fitted model beats chance on the data that it was fitted on",
    )


def _score(trial: Trial, split: Split, predictions: Sequence[Any]) -> float:
    evaluator = trial.task.evaluator(trial.predictor.artifact.problem, split)
    evaluator.update(predictions, [split[index] for index in range(len(split))])
    primary = trial.task_spec.primary_metric
    assert primary is not None
    return evaluator.compute()[primary.name]


def _judged(trial: Trial) -> Split:
    """The training split, where its examples are what is judged; else the first split that is."""
    for name in ("valid", "test"):
        part = trial.splits[name]
        if part is not None and len(part) and type(part[0]) is not type(trial.train[0]):
            return part
    return trial.train
