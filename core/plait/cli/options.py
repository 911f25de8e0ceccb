"""Which options do several verbs share, and how are their values read and completed?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from plait_registry.registry import Registry

Command = Callable[..., Any]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds of each unit of a time."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def read_duration(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """A time in seconds from seconds, or a number with s, m or h: 90, 90s, 1.5m, 2h."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([smh]?)", text.strip().lower())
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{text!r} is no time; write seconds, or 90s, 10m, 2h", ctx, param)
    return float(found[1]) * _UNITS[found[2]]


def read_processes(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """A number of processes; "auto" is one for each CUDA device of this host, times --hosts, and 1 without devices."""
    if text is None:
        return None
    if text == "auto":
        import torch

        return max(1, torch.cuda.device_count() * max(1, len(ctx.params.get("hosts") or ())))
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise click.BadParameter(f"{text!r}; expected a number from 1, or auto: one for each CUDA device", ctx, param)
    return int(text)


def read_host_file(ctx: click.Context, param: click.Parameter, text: str | None) -> list[str] | None:
    """The hosts that a file names, one a line."""
    if text is None:
        return None
    from plait.engine.hosts import read_hosts

    return list(read_hosts(Path(text)))


def model_values(assignments: Sequence[str]) -> Mapping[str, Any]:
    """The `model` block of `--set model.a=b ...` for a run, whose other blocks are as they were.

    Raises:
        UsageError: another block is named.
    """
    from plait.layers import options_layer

    values = options_layer(tuple(assignments)).values
    if set(values) - {"model"}:
        raise click.UsageError("--set takes model.* for a run: everything else is as it was trained")
    block: Mapping[str, Any] = values.get("model", {})
    return block


def complete_tasks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tasks, and files (a recipe)."""
    return [*_names("task", incomplete=incomplete), CompletionItem(incomplete, type="file")]


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models; those that serve the task, where it stands before them."""
    registry = Registry.discover()
    tasks = {entry.name for entry in registry.entries("task")}
    # click gives up at the option that lacks its value, so that the words before it are not in params yet
    given = [word for word in (ctx.params.get("task"), *ctx.args) if word in tasks]
    if given:
        offered = [entry.name for entry in registry.models_for(str(given[0]))]
    else:
        offered = [entry.name for entry in registry.entries("model")]
    return _items((name.removesuffix("*") for name in offered), incomplete)


def complete_data(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Data sets, and files."""
    return [*_names("dataset", incomplete=incomplete), CompletionItem(incomplete, type="file")]


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whatever `plait show` knows."""
    return _names(None, incomplete=incomplete)


def complete_plugins(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Plugins."""
    return _items((plugin.name for plugin in Registry.discover().plugins), incomplete)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs in `runs/`, and directories."""
    found = (file.parent.as_posix() for file in sorted(Path("runs").glob("*/run.json")))
    return [*_items(found, incomplete), CompletionItem(incomplete, type="dir")]


def run_argument(**settings: Any) -> Callable[[Command], Command]:
    """The argument RUN: a directory, completed with the runs below `runs/`."""
    name = "runs" if settings.get("nargs") == -1 else "run"
    return click.argument(name, metavar="RUN", shell_complete=complete_runs, **settings)


def _names(kind: str | None, *, incomplete: str) -> list[CompletionItem]:
    return _items((entry.name.removesuffix("*") for entry in Registry.discover().entries(kind)), incomplete)


def _items(names: Iterator[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]
