"""Which runs are there, and how did each end? The verb `runs`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.cli.options import json_option
from plait.cli.session import Session
from plait.errors import RunError

if TYPE_CHECKING:
    from plait.run import Run


@click.command()
@click.argument("root", metavar="[ROOT]", default="runs", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def runs(session: Session, root: Path, as_json: bool) -> None:
    """List the runs in a directory.

    ROOT is `runs` where it is not given; the newest run is last. With --json: an array of run, name, status, task,
    model, created, metrics.
    """
    from plait.run import find_runs

    if not root.is_dir() and root != Path("runs"):
        raise RunError(f"{root}: no such directory", hint="name the directory that the runs are in")
    found = find_runs(root)
    if as_json:
        session.output.document([_document(run) for run in found])
        return
    if not found:
        session.say(f"no runs in {root}/; `plait run TASK` makes one")
        return
    rows = [(run.path.name, run.status, run.task, run.model, _headline(run), _age(run)) for run in found]
    session.output.table(("run", "status", "task", "model", "result", "age"), rows)
    for run in found:
        if run.status == "unreadable":
            session.say(f"{run.path}: {run.info['error']}")


def _document(run: Run) -> dict[str, Any]:
    document: dict[str, Any] = {
        "run": str(run.path),
        "name": run.path.name,
        "status": run.status,
        "task": run.task,
        "model": run.model,
    }
    document |= {"created": run.info.get("created"), "metrics": run.info.get("metrics", {})}
    return {**document, "error": run.info["error"]} if "error" in run.info else document


def _headline(run: Run) -> str:
    """The primary metric of the best known split: "accuracy 0.9831 (test)"."""
    from plait.summary import Headline, as_text

    found = Headline.of(run.info)
    return "" if found.value is None else f"{found.metric} {as_text(found.value)} ({found.split})"


def _age(run: Run) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(str(run.info.get("created")))).total_seconds()
    except (ValueError, TypeError):  # a run that cannot be read, or a date without a time zone
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
