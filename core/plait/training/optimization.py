"""Which parameters are updated by which rule, with which learning rate at which step?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from pydantic import Field

from plait.errors import RecipeError, did_you_mean
from plait.model import NeuralModel
from plait.options import RESUME, Options, TrainerOptions


class GroupOptions(Options):
    """What differs for the parameters that a pattern names."""

    learning_rate_scale: float = Field(default=1.0, ge=0)
    """A factor on the learning rate."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled weight decay; None: as `trainer.weight_decay`."""
    l1: float | None = Field(default=None, ge=0)
    """L1 penalty; None: as `trainer.l1`."""
    l2: float | None = Field(default=None, ge=0)
    """L2 penalty; None: as `trainer.l2`."""


class GradientOptions(TrainerOptions):
    """The recipe's `trainer` block for models fitted by gradients."""

    epochs: int = Field(default=10, ge=0)
    """Passes over the training split; 0 makes a run of the weights as given."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps at most; None: as many as the epochs have."""
    batch_size: int = Field(default=32, ge=1)
    """Examples of one optimizer step, over all processes and micro-batches (the global batch)."""
    micro_batch_size: int | None = Field(default=None, ge=1, json_schema_extra=RESUME)
    """Examples of one forward on one process; smaller ones are accumulated, which changes nothing but rounding,
    except where a layer (batch norm) or the loss looks across examples. None: the process's whole share."""
    evaluation_batch_size: int | None = Field(default=None, ge=1, json_schema_extra=RESUME)
    """Examples of one forward when evaluating; None: twice the training forward's."""
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """The update rule."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest learning rate of the schedule."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd and rmsprop."""
    nesterov: bool = False
    """Nesterov's momentum, for sgd."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments of adamw and adam."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator of adamw, adam and rmsprop."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay (Loshchilov and Hutter 2019), on parameters whose group decays."""
    l1: float = Field(default=0.0, ge=0)
    """L1 penalty: its subgradient l1 * sign(w) is added after clipping."""
    l2: float = Field(default=0.0, ge=0)
    """L2 penalty: l2 * w is added to the gradient after clipping."""
    groups: dict[str, GroupOptions] = Field(default_factory=dict)
    """Settings for parameters by name pattern, first match wins: {"classifier.*": {"learning_rate_scale": 10}}."""
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    """The learning rate's course after warm-up."""
    warmup: float = Field(default=0.05, ge=0)
    """Linear warm-up: a fraction of all steps where below 1, else a number of steps."""
    final_learning_rate_scale: float = Field(default=0.0, ge=0, le=1)
    """Where cosine and linear end, as a fraction of the learning rate."""
    step_epochs: float = Field(default=30, gt=0)
    """Epochs between the drops of the step schedule."""
    step_factor: float = Field(default=0.1, gt=0, le=1)
    """The factor of each drop of the step schedule."""
    clip: float | None = Field(default=1.0, gt=0)
    """The largest global 2-norm of the gradients; null: no clipping."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which then is what is evaluated and saved."""
    max_skipped_steps: int = Field(default=0, ge=0, json_schema_extra=RESUME)
    """Consecutive steps with a non-finite loss or gradient that are skipped before the run stops."""
    select: Literal["best", "last"] = Field(default="best", json_schema_extra=RESUME)
    """Which weights the run ends with: the best on `valid` by the task's primary metric, or the last."""
    log_every: int = Field(default=10, ge=1, json_schema_extra=RESUME)
    """Steps between logged training scalars."""


def freeze(model: NeuralModel, patterns: Sequence[str]) -> int:
    """Exclude the parameters that the patterns name from training; how many elements that are.

    Raises:
        RecipeError: a pattern names no parameter, or nothing is left to train.
    """
    named = list(model.named_parameters())
    for pattern in patterns:
        matching = [parameter for name, parameter in named if _matches(name, pattern)]
        if not matching:
            _no_parameter("model.freeze", pattern, [name for name, _ in named])
        for parameter in matching:
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for _, parameter in named):
        raise RecipeError(f"model.freeze={list(patterns)}: no parameter is left to train")
    return sum(parameter.numel() for _, parameter in named if not parameter.requires_grad)


def make_optimizer(model: NeuralModel, options: GradientOptions) -> torch.optim.Optimizer:
    """The update rule over the model's named parameter groups, each with its own decay and learning-rate scale."""
    parameters = dict(model.named_parameters())
    groups: dict[tuple[str, str | None], dict[str, Any]] = {}
    for group in model.parameter_groups():
        for name in group.parameters:
            pattern = next((each for each in options.groups if _matches(name, each)), None)
            given = options.groups[pattern] if pattern else GroupOptions()
            made = groups.setdefault(
                (group.name, pattern),
                {
                    "params": [],
                    "name": group.name if pattern is None else f"{group.name} {pattern}",
                    "scale": group.learning_rate_scale * given.learning_rate_scale,
                    "decoupled": _pick(given.weight_decay, options.weight_decay) if group.decay else 0.0,
                    "l1": _pick(given.l1, options.l1) if group.decay else 0.0,
                    "l2": _pick(given.l2, options.l2) if group.decay else 0.0,
                },
            )
            made["params"].append(parameters[name])
    for pattern in options.groups:
        if not any(pattern == made for _, made in groups):
            _no_parameter("trainer.groups", pattern, list(parameters))
    rate, made_groups = options.learning_rate, list(groups.values())
    optimizer: torch.optim.Optimizer
    if options.optimizer == "sgd":
        optimizer = torch.optim.SGD(made_groups, rate, momentum=options.momentum, nesterov=options.nesterov)
    elif options.optimizer == "rmsprop":
        optimizer = torch.optim.RMSprop(made_groups, rate, momentum=options.momentum, eps=options.epsilon)
    elif options.optimizer == "adam":
        optimizer = torch.optim.Adam(made_groups, rate, betas=options.betas, eps=options.epsilon)
    else:
        for each in made_groups:
            each["weight_decay"] = each.pop("decoupled")
            each["decoupled"] = 0.0
        optimizer = torch.optim.AdamW(made_groups, rate, betas=options.betas, eps=options.epsilon)
    if any(each["l1"] or each["l2"] or each["decoupled"] for each in optimizer.param_groups):
        optimizer.register_step_pre_hook(_regularise)
    return optimizer


def schedule(step: int, *, total: int, steps_per_epoch: int, options: GradientOptions) -> float:
    """The factor on the learning rate at `step` (0-based) of `total`."""
    warmup = round(options.warmup * total) if options.warmup < 1 else round(options.warmup)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "step":
        return float(options.step_factor ** math.floor(step / (options.step_epochs * steps_per_epoch)))
    progress = (step - warmup) / max(1, total - warmup)
    end = options.final_learning_rate_scale
    shape = (1 + math.cos(math.pi * progress)) / 2 if options.schedule == "cosine" else 1 - progress
    return end + (1 - end) * shape


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def _regularise(optimizer: torch.optim.Optimizer, args: Any, kwargs: Mapping[str, Any]) -> None:
    """Penalties on whatever the optimizer holds, whole parameters or a rank's flat part of them."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["l1"]:
                    parameter.grad.add_(parameter.sign(), alpha=group["l1"])
                if group["l2"]:
                    parameter.grad.add_(parameter, alpha=group["l2"])
                if group["decoupled"]:
                    parameter.mul_(1 - group["lr"] * group["decoupled"])


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def _pick(value: float | None, default: float) -> float:
    return default if value is None else value


def _no_parameter(where: str, pattern: str, names: Sequence[str]) -> None:
    tops = sorted({name.split(".", 1)[0] for name in names})
    raise RecipeError(
        f"{where}: {pattern!r} names no trainable parameter of the model",
        hint=did_you_mean(pattern, [*names, *tops]) or f"the model has {', '.join(tops)}",
    )
