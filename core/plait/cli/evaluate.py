"""How good is a run? The verb `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from plait.cli.options import complete_data, json_option, model_values, run_argument
from plait.cli.session import Session


@click.command()
@run_argument()
@click.option("--data", "-d", metavar="D", shell_complete=complete_data, help="Other data of the same task.")
@click.option(
    "--set",
    "assignments",
    metavar="A.B=C",
    multiple=True,
    help="How to read --data (data.on_error=skip), or how answers are found (model.decoding.beam=8). Repeatable.",
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

    With --json: run, task, model, split, examples, metrics, and speed where the task measures one.
    """
    from plait.api import evaluate as judge

    session.log_to_terminal()
    of_model = [each for each in assignments if each.startswith("model.")]
    of_data = tuple(each for each in assignments if each not in of_model)
    found = judge(
        run, _with_options(data, of_data), split=split, batch_size=batch_size, options=model_values(of_model),
        registry=session.registry,
    )  # fmt: skip
    if as_json:
        session.output.document(found.document())
        return
    session.output.text(f"{found.model} on {found.split} of {data or run}: {found.examples:,} examples")
    session.output.table(("metric", found.split), _rows({**found.metrics, **found.speed}))


def _rows(numbers: Mapping[str, float]) -> list[tuple[str, str]]:
    from plait.summary import as_text

    return [(name, as_text(value)) for name, value in numbers.items()]


def _with_options(data: str | None, assignments: tuple[str, ...]) -> Any:
    if not assignments:
        return data
    from plait.layers import options_layer

    values = options_layer(assignments).values
    block = values.get("data")
    if data is None or set(values) != {"data"} or not isinstance(block, Mapping):
        raise click.UsageError("--set takes model.* here, and data.* with --data")
    return {**block, "source": data}
