"""Which plugins are installed, what became of each, and does one keep the contract? The verb `plugins`."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import click

from plait.cli.options import complete_plugins, json_option
from plait.cli.session import Session
from plait_registry.entry import Plugin, normalised
from plait_registry.errors import PluginError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from plait.testing import Result

SLOW = 0.2
"""Seconds to import above which a plugin is named: every command waits for it."""


@click.group(invoke_without_command=True, subcommand_metavar="[check NAME]")
@json_option
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List plugins and why one failed; check one.

    With --json: an array of name, distribution, version, status (ok, failed, disabled), reason, hint, provides.
    """
    if context.invoked_subcommand is not None:
        return
    session = context.ensure_object(Session)
    found = session.registry.plugins
    if as_json:
        session.output.document([_document(plugin) for plugin in found])
        return
    rows = [(each.name, each.owner, each.status, _remark(each)) for each in found]
    session.output.table(("plugin", "distribution", "status", "provides"), rows)
    for plugin in found:
        if plugin.status != "ok":
            session.output.text()
            session.output.text(str(plugin))
            if plugin.hint:
                session.output.text(f"  hint: {plugin.hint}")
    for note in session.registry.notes:
        session.output.text(f"note: {note}")


@plugins.command(short_help="Run the conformance suite over a plugin.")
@click.argument("name", shell_complete=complete_plugins)
@json_option
@click.pass_obj
def check(session: Session, name: str, as_json: bool) -> int:
    """Run the conformance suite over a plugin: every task with every model, on their tiny variants.

    NAME is a plugin or its distribution. Exit code 1 where a check fails. With --json: an array of case, check, status
    (passed, failed, skipped), reason, seconds.
    """
    plugin = _find(session, name)
    session.log_to_terminal()
    from plait.testing import run_checks

    results: list[dict[str, Any]] = []
    for result in run_checks(session.registry, plugin.distribution):
        results.append(_result(result))
        if not as_json:
            session.output.text(_line(result))
        if session.debug and result.error is not None:
            traceback.print_exception(result.error)
    counts = {status: sum(each["status"] == status for each in results) for status in ("passed", "failed", "skipped")}
    if as_json:
        session.output.document(results)
    else:
        session.output.text(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] else 0


def _find(session: Session, name: str) -> Plugin:
    installed = session.registry.plugins
    for plugin in installed:
        if normalised(name) in (normalised(plugin.name), normalised(plugin.distribution)):
            if plugin.status != "ok":
                raise PluginError(f"{plugin}", hint=plugin.hint)
            return plugin
    names = [name for plugin in installed for name in (plugin.name, plugin.distribution)]
    raise UnknownNameError(
        f"no installed plugin is called {name!r}", hint=did_you_mean(name, names) or "`plait plugins` lists them"
    )


def _document(plugin: Plugin) -> dict[str, Any]:
    document: dict[str, Any] = {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
    document["status"] = plugin.status
    document |= {key: value for key in ("reason", "hint") if (value := getattr(plugin, key)) is not None}
    return {**document, "provides": plugin.provides}


def _remark(plugin: Plugin) -> str:
    provides = ", ".join(plugin.provides)
    return f"{provides} (slow: {plugin.seconds:.1f} s to import)" if plugin.seconds > SLOW else provides


def _result(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = {"case": str(result.case), "check": result.check, "status": result.status}
    return {**document, **({"reason": result.reason} if result.reason else {}), "seconds": round(result.seconds, 3)}


def _line(result: Result) -> str:
    reason = f": {result.reason}" if result.reason else ""
    return f"{result.status:8}{result.case}  {result.check} ({result.seconds:.1f} s){reason}"
