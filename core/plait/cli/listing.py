"""What is installed? The verb `list`."""

from __future__ import annotations

from typing import Any

import click

from plait.cli.options import json_option
from plait.cli.session import Session
from plait_registry.errors import UnknownNameError, did_you_mean
from plait_registry.registry import PROVIDERS, Entry, Registry

LISTED = ("task", "model", "dataset", "trainer", "engine")


@click.command("list")
@click.option("--modality", metavar="M", help="Only those of one modality, such as vision.")
@click.option("--kind", metavar="K", help=f"Only one kind: {', '.join(LISTED)}.")
@json_option
@click.pass_obj
def listing(session: Session, modality: str | None, kind: str | None, as_json: bool) -> None:
    """List tasks, models, data sets, trainers and engines.

    A family of models, such as timm/*, is one row; `plait show timm/` lists its members.
    """
    registry = session.registry
    if kind is not None and kind not in LISTED:
        raise UnknownNameError(f"there is no kind {kind!r}", hint=did_you_mean(kind, LISTED) or _choices(LISTED))
    if modality is not None:
        _check_modality(modality, registry)
    entries = [
        entry
        for entry in registry.entries(kind)
        if entry.kind in LISTED and (modality is None or entry.modality == modality)
    ]
    if as_json:
        session.output.document([describe(entry) for entry in entries])
    else:
        rows = [(entry.kind, entry.name, _summary(entry), f"{entry.plugin} {entry.version}") for entry in entries]
        session.output.table(("kind", "name", "summary", "plugin"), rows)
    mention_failed(session)


def describe(entry: Entry) -> dict[str, Any]:
    """An entry as `plait list --json` prints it."""
    return {
        "kind": entry.kind, "name": entry.name, "modality": entry.modality, "summary": entry.summary,
        "plugin": entry.plugin, "version": entry.version,
    }  # fmt: skip


def _summary(entry: Entry) -> str:
    """One line about it, and the extra that it needs."""
    return f"{entry.summary}; needs {entry.requires}" if entry.requires else entry.summary


def mention_failed(session: Session) -> None:
    """One line on stderr where plugins failed: what they offer is missing from the answer."""
    failed = [plugin for plugin in session.registry.plugins if plugin.status == "failed"]
    if failed:
        session.say(f"{len(failed)} plugin{'s' * (len(failed) > 1)} failed; see `plait plugins`")


def _check_modality(modality: str, registry: Registry) -> None:
    known = sorted({entry.modality for entry in registry.entries() if entry.modality})
    if modality in known:
        return
    provider = PROVIDERS.get(modality)
    hint = did_you_mean(modality, known) or _choices(known)
    raise UnknownNameError(
        f"nothing that is installed is of modality {modality!r}", hint=f"pip install {provider}" if provider else hint
    )


def _choices(names: Any) -> str:
    return f"one of {', '.join(names)}" if names else "no plugin is installed: `plait plugins` says what is there"
