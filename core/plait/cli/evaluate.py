"""How good is a run? The verb `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from plait.cli.options import complete_data, json_option, run_argument
from plait.cli.session import Session


@click.command()
@run_argument()
@click.option("--data", "-d", metavar="D", shell_complete=complete_data, help="Other data of the same task.")
@click.option(
    "--set",
    "assignments",
    metavar="DATA.B=C",
    multiple=True,
    help="How to read --data: data.on_error=skip, data.fields.label=species. Repeatable.",
)
@click.option("--split", type=click.Choice(["train", "valid", "test"]), help="Default: test, else valid.")
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Of one forward."
)
@json_option
@click.pass_obj
def evaluate(
    session: Session, run: str, data: str | None, assignments: tuple[str, ...], split: str | None, batch_size: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Judge a run on its test split, or on other data.

    With --json: run, task, model, split, examples, metrics.
    """
    from plait.api import evaluate as judge

    session.log_to_terminal()
    found = judge(run, _with_options(data, assignments), split=split, batch_size=batch_size, registry=session.registry)
    if as_json:
        session.output.document(found.document())
        return
    from plait.summary import as_text

    session.output.text(f"{found.model} on {found.split} of {data or run}: {found.examples:,} examples")
    session.output.table(("metric", found.split), [(name, as_text(value)) for name, value in found.metrics.items()])


def _with_options(data: str | None, assignments: tuple[str, ...]) -> Any:
    if not assignments:
        return data
    from plait.layers import options_layer

    values = options_layer(assignments).values
    block = values.get("data")
    if data is None or set(values) != {"data"} or not isinstance(block, Mapping):
        raise click.UsageError("--set takes data.* here, and goes with --data")
    return {**block, "source": data}
