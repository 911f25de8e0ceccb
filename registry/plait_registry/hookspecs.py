"""What may a plugin contribute? This page is the whole menu.

A plugin is a light module, named by an entry point of the group `plait.plugins`, with functions marked `@hookimpl`:

    from plait_registry import ModelSpec, hookimpl

    plait_api = 1

    @hookimpl
    def plait_models() -> list[ModelSpec]:
        return [ModelSpec(name="tabular/forest", summary="...", target="my_package.forest:Forest", ...)]

It imports nothing heavy: specs name their targets, and a target is imported when it is used.
Hooks return values; nothing is registered as a side effect. Lifecycle hooks are told what happens in a run (a tracker
is a plugin that implements them); one that raises is reported and the run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from plait_registry.specs import AdapterSpec, DatasetSpec, EngineSpec, ModelSpec, PortSpec, Spec, TaskSpec, TrainerSpec

PROJECT = "plait"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def plait_tasks() -> list[TaskSpec]:
    """Tasks: what is learned."""
    return []


@hookspec
def plait_models() -> list[ModelSpec]:
    """Models: what is fitted. A model may serve another plugin's task."""
    return []


@hookspec
def plait_datasets() -> list[DatasetSpec]:
    """Named data sets; a task's demo data is one of them."""
    return []


@hookspec
def plait_trainers() -> list[TrainerSpec]:
    """Trainers: how a model is fitted."""
    return []


@hookspec
def plait_engines() -> list[EngineSpec]:
    """Engines: where a step runs."""
    return []


@hookspec
def plait_ports() -> list[PortSpec]:
    """Port types: kinds of value that flow between predictors."""
    return []


@hookspec
def plait_adapters() -> list[AdapterSpec]:
    """Adapters between port types."""
    return []


@hookspec
def plait_fit_started(run: Path, recipe: Mapping[str, Any]) -> None:
    """A fit starts or resumes in the run directory `run`; `recipe` is the resolved recipe, JSON values only."""


@hookspec
def plait_step_logged(run: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Scalars of an optimizer step (or EM iteration) were logged."""


@hookspec
def plait_evaluated(run: Path, step: int, split: str, metrics: Mapping[str, float]) -> None:
    """A split was evaluated."""


@hookspec
def plait_checkpoint_saved(run: Path, step: int, checkpoint: Path) -> None:
    """A checkpoint is complete on disk."""


@hookspec
def plait_fit_ended(run: Path, status: str) -> None:
    """The fit ended; `status` is "finished", "stopped" (by its time limit), "interrupted" or "failed"."""


OFFERS: Mapping[str, type[Spec] | type[PortSpec]] = {
    "plait_tasks": TaskSpec,
    "plait_models": ModelSpec,
    "plait_datasets": DatasetSpec,
    "plait_trainers": TrainerSpec,
    "plait_engines": EngineSpec,
    "plait_ports": PortSpec,
    "plait_adapters": AdapterSpec,
}
"""Hooks that return specs, and the type of spec that each returns a list of."""

EVENTS: Mapping[str, tuple[str, ...]] = {
    name: hook.__code__.co_varnames[: hook.__code__.co_argcount]
    for name, hook in list(globals().items())
    if name.startswith("plait_") and name not in OFFERS
}
"""Lifecycle hooks, and the arguments that each is given."""
