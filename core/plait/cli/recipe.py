"""How do words on a command line become the sources of a recipe?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.cli.options import (
    complete_data,
    complete_models,
    complete_runs,
    complete_tasks,
    read_duration,
    read_host_file,
    read_processes,
)

if TYPE_CHECKING:
    from plait.cli.session import Session
    from plait.layers import Layer

_NAMED = {
    "model": ("model.name", "--model"),
    "data": ("data.source", "--data"),
    "seed": ("seed", "--seed"),
    "out": ("output.directory", "--out"),
    "max_time": ("trainer.max_time", "--max-time"),
    "processes": ("engine.processes", "--nproc"),
    "hosts": ("engine.hosts", "--hosts"),
    "max_restarts": ("engine.max_restarts", "--max-restarts"),
}
"""Option -> (the path that it is short for, the origin that `plait config` prints)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a command line asks to be trained. It knows words, not what they name.

    Args:
        task: a task's name or a recipe file; None where `out` is a run to go on with.
        named: values of the options that are short for a path, by option.
        assignments: the texts of `--set`, in order.
    """

    task: str | None
    named: Mapping[str, Any]
    assignments: tuple[str, ...]

    @property
    def out(self) -> Path | None:
        """The run directory that was asked for."""
        out = self.named["out"]
        return None if out is None else Path(out)

    def layers(self, session: Session, *, resume: bool = False) -> list[Layer]:
        """The sources of the recipe, weakest first. A run that is resumed has its own recipe below them.

        Raises:
            PlaitError: a recipe file is not to be read, or there is no run to go on with.
        """
        from plait.api import layers
        from plait.layers import Layer, options_layer, read_recipe

        found: list[Layer] = []
        earlier = None if self.out is None else self.out / "recipe.yaml"
        if resume and earlier is None:
            raise click.UsageError("--resume goes on with the run in --out DIR; name that directory")
        if resume and earlier is not None and (self.task is None or earlier.is_file()):
            _check_run(earlier)
            values = read_recipe(earlier).values
            if isinstance(values.get("trainer"), Mapping):  # the time limit was of that command, not of this one
                values = {**values, "trainer": {**values["trainer"], "max_time": None}}
            found.append(Layer(str(earlier), values))
        found += layers(self.task, None, self.assignments)
        for option, value in self.named.items():
            path, origin = _NAMED[option]
            if value is not None:
                found.append(Layer(origin, options_layer((), {path: value}).values))
        if any(_wants_pretrained(layer) for layer in found):
            session.allow_hub()
        return found


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument TASK and every option that makes a recipe; the verb gets them as one `request`."""

    @functools.wraps(function)
    def command(*args: Any, task: str | None, assignments: tuple[str, ...], **rest: Any) -> Any:
        named = {option: rest.pop(option) for option in _NAMED}
        return function(*args, request=Request(task=task, named=named, assignments=assignments), **rest)

    decorators = (
        click.argument("task", metavar="[TASK]", required=False, shell_complete=complete_tasks),
        click.option("--model", "-m", metavar="M", shell_complete=complete_models, help="The model: model.name."),
        click.option(
            "--data", "-d", metavar="D", shell_complete=complete_data,
            help="A path or a registered data set: data.source.",
        ),
        click.option(
            "--set", "assignments", metavar="A.B=C", multiple=True,
            help="Any value of the recipe: trainer.epochs=3. Repeatable.",
        ),
        click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Of everything random."),
        click.option("--out", "-o", metavar="DIR", shell_complete=complete_runs, help="The run directory."),
        click.option(
            "--max-time", metavar="TIME", callback=read_duration, help="Stop after 90s, 10m or 2h, with a checkpoint."
        ),
        click.option(
            "--nproc", "processes", metavar="N", callback=read_processes,
            help="Processes that train together, on all hosts: engine.processes. auto: one for each CUDA device.",
        ),
        click.option(
            "--hosts", metavar="FILE", callback=read_host_file, is_eager=True,  # --nproc auto counts them
            help="Hosts to share them, one a line, on each of which this command is run: engine.hosts.",
        ),
        click.option(
            "--max-restarts", metavar="K", type=click.IntRange(min=0),
            help="Start again this often where a process died: engine.max_restarts.",
        ),
    )  # fmt: skip
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def _check_run(recipe: Path) -> None:
    if not recipe.is_file():
        from plait.run import Run

        Run.open(recipe.parent)  # says what is wrong with the directory, where that is it
        raise click.UsageError(f"{recipe}: missing, so name the TASK that the run was started with")


def _wants_pretrained(layer: Layer) -> bool:
    block = layer.values.get("model")
    return isinstance(block, Mapping) and block.get("pretrained") is True
