"""Is one run better than another, or can nobody tell? The verb `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from plait.cli.options import json_option, run_argument
from plait.cli.session import Session
from plait.errors import RunError


@click.command()
@run_argument(nargs=-1, required=True)
@click.option("--split", type=click.Choice(["valid", "test"]), help="Default: test where every run has it, else valid.")
@json_option
@click.pass_obj
def compare(session: Session, runs: tuple[str, ...], split: str | None, as_json: bool) -> None:
    """Compare runs on the same examples, with intervals.

    The first is compared with each of the others; the interval of the difference is a paired bootstrap over examples.
    With --json: an array of runs (two), metric, split, examples, first, second, difference, low, high, level, p_value.
    """
    if len(runs) < 2:
        raise click.UsageError("name two runs at least: the first is compared with each of the others")
    from plait.api import compare as compare_two
    from plait.run import Run

    first, *others = [Run.open(Path(each)) for each in runs]
    chosen = split or _common_split([first, *others])
    found = []
    for other in others:
        compared = compare_two(first, other, split=chosen, registry=session.registry)
        found.append({"runs": [str(first.path), str(other.path)], **compared})
    if as_json:
        session.output.document(found)
        return
    _show(session, found)


def _common_split(runs: list[Any]) -> str:
    for name in ("test", "valid"):
        if all((run.path / "predictions" / f"{name}.parquet").is_file() for run in runs):
            return name
    for run in runs:
        if not (run.path / "predictions").is_dir():
            raise RunError(
                f"{run.path}: the run has no predictions yet (its status is {run.status})",
                hint=f"go on with: plait train --out {run.path} --resume",
            )
    raise RunError("the runs have no split in common", hint="evaluate them on the same data")


def _show(session: Session, found: list[dict[str, Any]]) -> None:
    from plait.summary import as_text

    first = found[0]
    name = Path(first["runs"][0]).name
    where = f"on {first['split']}, {first['examples']:,} examples"
    session.output.text(f"{name}: {first['metric']} {as_text(first['first'])} {where}")
    session.output.text()
    rows = [
        (
            Path(each["runs"][1]).name, as_text(each["second"]), f"{each['difference']:+.4f}",
            f"{each['low']:+.4f} to {each['high']:+.4f}", as_text(each["p_value"]), verdict(each, name),
        )
        for each in found
    ]  # fmt: skip
    level = f"{first.get('level', 0.95):.0%} interval"
    session.output.table(("run", first["metric"], "difference", level, "p", "verdict"), rows)


def verdict(found: Mapping[str, Any], first: str) -> str:
    """What the interval of `first - second` allows to say."""
    low, high = found["low"], found["high"]
    if low <= 0 <= high:
        return "no difference can be told"
    better = (low > 0) == found["higher_is_better"]
    return f"{first} is better" if better else f"{first} is worse"
