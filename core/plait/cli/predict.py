"""What does a run say of these inputs? The verb `predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.cli.options import json_option, run_argument
from plait.cli.session import Session
from plait.errors import DataError, PlaitError

if TYPE_CHECKING:
    from plait.task import Prediction

_FILES = {"image", "audio", "video"}
"""Port types whose values are files, so that a directory means all of its files."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to predict for.

    Args:
        shown: how the answer names it.
        value: what the predictor gets: a bare value, or a mapping of port names.
        error: why it cannot even be tried.
    """

    shown: Any
    value: Any = None
    error: str | None = None


@click.command()
@run_argument()
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@click.option(
    "--input-file", "-f", type=click.Path(), metavar="F",
    help="Inputs from a file: objects of port names (*.jsonl), or one input a line. - reads stdin.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Of one forward.")
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line, as results come.")
@click.pass_obj
def predict(
    session: Session, run: str, inputs: tuple[str, ...], input_file: str | None, batch_size: int, as_json: bool,
    jsonl: bool,
) -> int:  # fmt: skip
    """Answer for inputs, with a run, a model directory or a saved composition.

    INPUT is a value of the input port: a path, a text, - for lines of stdin. A directory means the files in it, where
    the port takes images, audio or video. Where there are several ports, INPUT is a JSON object of their names.

    \b
    With --json, an array in input order of {"input", "prediction", "scores"?} or {"input", "error"}.
    Exit code: 0; 1 where some inputs failed; 2 where all did.
    """
    if as_json and jsonl:
        raise click.UsageError("--json is one document, --jsonl one object a line; choose one")
    if not inputs and input_file is None:
        raise click.UsageError("name an INPUT, or a file of them with --input-file")
    from plait.predictor import load

    session.log_to_terminal()
    with _opened(input_file) as lines:  # before the model is loaded: a misspelt name is the likelier mistake
        predictor = load(run, session.registry)
        given = [*_from_words(inputs, predictor.accepts), *()]
        source = _chain(given, lines, input_file, predictor.accepts)
        results: list[dict[str, Any]] = []
        write = _writer(session, as_json=as_json, jsonl=jsonl, results=results)
        total = failed = 0
        for each, answer in answers(predictor, source, batch_size=batch_size):
            total, failed = total + 1, failed + (answer.error is not None)
            write(each, answer)
    if as_json:
        session.output.document(results)
    if not total:
        session.say("there was no input")
    return 0 if not failed else 2 if failed == total else 1


def answers(predictor: Any, inputs: Iterable[Input], *, batch_size: int) -> Iterator[tuple[Input, Prediction]]:
    """An answer for each input, in order, a batch at a time; memory holds one batch."""
    from plait.task import Prediction

    source = iter(inputs)
    while batch := list(islice(source, batch_size)):
        good = [each.value for each in batch if each.error is None]
        found = iter(predictor.predict(good, batch_size=batch_size))
        for each in batch:
            yield each, next(found) if each.error is None else Prediction(error=each.error)
