"""Which verbs are there, and in which module does each live?"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from plait.cli.session import Session
from plait_registry.errors import did_you_mean

VERBS: dict[str, tuple[str, str]] = {
    "list": ("listing", "List tasks, models, data sets, trainers and engines."),
    "show": ("show", "Show what NAME accepts, returns, and can be set to."),
    "run": ("run", "Train, evaluate and report; on demo data where none are given."),
    "train": ("train", "Fit a model to a task's data."),
    "evaluate": ("evaluate", "Judge a run on its test split, or on other data."),
    "predict": ("predict", "Answer for inputs, with a run or a saved composition."),
    "runs": ("runs", "List the runs in a directory."),
    "compare": ("compare", "Compare runs on the same examples, with intervals."),
    "config": ("config", "Print the whole recipe and where each value comes from."),
    "plan": ("plan", "Say what a training would take: steps, and memory by ZeRO stage."),
    "plugins": ("plugins", "List plugins and why one failed; check one."),
    "new": ("new", "Start a plugin from a working template."),
    "doctor": ("doctor", "Check this installation."),
}
"""Verb -> (module in this package, its line in `plait --help`), in the order of a first acquaintance."""

_EPILOG = """\b
A first look:  plait run vision/image-classification
Completion:    eval "$(_PLAIT_COMPLETE=bash_source plait)"     (zsh_source, fish_source)
Every verb that prints takes --json."""


class Verbs(click.Group):
    """The group of all verbs. A verb's module is imported when the verb is used, never for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"plait.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name if cmd_name != "list" else "listing")
        _accept_everywhere(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-") and not ctx.resilient_parsing:
            near = did_you_mean(verb, VERBS)
            raise click.UsageError(f"there is no verb {verb!r}" + (f"; {near}" if near else ""), ctx)
        return super().resolve_command(ctx, args)


def _set(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Note a setting that counts for the whole invocation, wherever among the words it stands."""
    session = ctx.find_object(Session)
    if not value or session is None or parameter.name is None:
        return
    if parameter.name == "no_plugins":
        os.environ["PLAIT_DISABLE"] = "*"  # worker processes discover plugins by themselves
    else:
        setattr(session, parameter.name, value)


def _settings(*, hidden: bool) -> list[click.Option]:
    common: dict[str, Any] = {"expose_value": False, "callback": _set, "hidden": hidden}
    return [
        click.Option(["-v", "--verbose"], count=True, help="Say what is going on; twice for details.", **common),
        click.Option(["-q", "--quiet"], is_flag=True, help="No progress, no warnings.", **common),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.", **common),
        click.Option(["--no-plugins"], is_flag=True, help="Load no plugin but Plait's own.", **common),
    ]


def _accept_everywhere(command: click.Command) -> None:
    """Let a verb take the settings too, after its name, without repeating them in its help."""
    if not any(each.name == "no_plugins" for each in command.params):
        command.params += _settings(hidden=True)
    for nested in getattr(command, "commands", {}).values():
        _accept_everywhere(nested)


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"plait {version('plait')}")
        ctx.exit()


def _greet() -> None:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli = Verbs(
    "plait",
    callback=_greet,
    invoke_without_command=True,
    help="One life cycle for every model: list, train, evaluate, predict, compose.",
    epilog=_EPILOG,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        *_settings(hidden=False),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
            help="Print the version and exit.",
        ),
    ],
)  # fmt: skip
