"""What does a reader want to see when a run has ended?"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from plait.summary import Headline, as_text, comparison_table, metrics_table
from plait_registry.specs import TaskSpec

if TYPE_CHECKING:
    from plait.cli.session import Session
    from plait.run import Run


def show_run(session: Session, run: Run) -> None:
    """Metrics of each split, the headline beside its baselines, where the report is, and what to try next."""
    output, document = session.output, run.info
    output.text(f"{run.task}, {run.model}: {run.status} after {document.get('seconds', 0):,.1f} s")
    metrics = metrics_table(document)
    if metrics.rows:
        output.text()
        output.table(metrics.columns, _cells(metrics.rows))
    headline = Headline.of(document)
    compared = comparison_table(document, headline)
    if compared.rows:
        output.text()
        output.table(compared.columns, _cells(compared.rows))
    synthetic = "The data are synthetic: these numbers say nothing of the world." if headline.synthetic else ""
    sentences = [each for each in (headline.sure(), headline.verdict(), synthetic) if each]
    for sentence in ["", *sentences] if sentences else []:
        output.text(sentence)
    output.text()
    if counts := (document.get("data") or {}).get("counts"):
        output.text(f"data     {', '.join(f'{count:,} {name}' for name, count in counts.items())}{_labels(run)}")
    report = run.path / "report.html"
    output.text(f"run      {run.path}")
    if report.is_file():
        output.text(f"report   {report}")
    for name, command in _next(session, run).items():
        output.text(f"{name:9}{command}")


def _labels(run: Run, most: int = 6) -> str:
    """The classes, where the problem names some: a reader sees whether folders were taken for them by mistake."""
    try:
        labels = json.loads((run.path / "model" / "plait.json").read_text(encoding="utf-8"))["problem"]["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # no model yet, or a problem without classes
    if not isinstance(labels, list):
        return ""
    more = ", ..." if len(labels) > most else ""
    return f"; {len(labels)} labels: {', '.join(map(str, labels[:most]))}{more}"


def _next(session: Session, run: Run) -> dict[str, str]:
    """Commands worth trying after the run."""
    where = shlex.quote(str(run.path))
    commands = {}
    if (run.path / "model").is_dir():
        commands["predict"] = f"plait predict {where} {_sample(session, run)}"
    if run.status != "finished":
        commands["go on"] = f"plait train --out {where} --resume"
    return commands


def _sample(session: Session, run: Run) -> str:
    """What stands for an input of the run's task in a command: a bare value where one port takes it."""
    from plait.predictor import bare_port

    spec = session.registry.task(run.task).spec
    assert isinstance(spec, TaskSpec)
    port = bare_port(spec.accepts, spec.optional)
    return "--input-file INPUTS.jsonl" if port is None else port.upper()


def _cells(rows: tuple[tuple[Any, ...], ...]) -> list[list[str]]:
    return [[as_text(cell) if not isinstance(cell, str) else cell for cell in row] for row in rows]
