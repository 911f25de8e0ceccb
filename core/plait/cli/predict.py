"""What does a run say of these inputs? The verb `predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.cli.inputs import Input, check_file, read_inputs
from plait.cli.options import json_option, model_values, run_argument
from plait.cli.output import encoded
from plait.cli.session import Session

if TYPE_CHECKING:
    from plait.composition import Composition
    from plait.predictor import Predictor
    from plait.task import Prediction


@click.command()
@run_argument()
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, type=click.Path(allow_dash=True))
@click.option(
    "--input-file",
    "-f",
    type=click.Path(allow_dash=True),
    metavar="F",
    help="Inputs from a file, one a line: objects of port names (all of *.jsonl), or bare values. - reads stdin.",
)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Of one forward."
)
@click.option(
    "--out",
    "-o",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where answers that are recordings go, as WAV files.",
)
@click.option(
    "--live",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="Follow one input as it arrives, and print what it says so far; - is stdin (WAV, or bare 16-bit samples).",
)
@click.option(
    "--set",
    "assignments",
    metavar="A.B=C",
    multiple=True,
    help="A value for a model that only predicts (model.voice=de), or of how a run finds its answers"
    " (model.decoding.beam=8). Repeatable.",
)
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object a line, as results come.")
@click.pass_obj
def predict(
    session: Session, run: str, inputs: tuple[str, ...], input_file: str | None, batch_size: int, out: Path | None,
    live: str | None, assignments: tuple[str, ...], as_json: bool, jsonl: bool,
) -> int:  # fmt: skip
    """Answer for inputs, with a run or a saved composition.

    RUN may also be the name of a registered model that only predicts: `plait predict speech/espeak "hello" --out said`.

    INPUT is a value of the input port: a path, a text, or - for lines of stdin. A directory means the files in it where
    the port takes images, audio or video. Where there are several ports, INPUT is a JSON object of their names.

    \b
    With --json: an array, in input order, of {"input", "prediction", "scores"?, "files"?} or {"input", "error"}.
    Exit code: 0; 1 where some inputs failed; 2 where all did.
    """
    if as_json and jsonl:
        raise click.UsageError("--json is one document, --jsonl one object a line; choose one")
    if live is not None and (inputs or input_file is not None or as_json):
        raise click.UsageError("--live takes one input as it arrives; leave out INPUT, --input-file and --json")
    if not inputs and input_file is None and live is None:
        raise click.UsageError("name an INPUT, or a file of them with --input-file")
    if input_file not in (None, "-"):
        check_file(str(input_file))  # before a model is loaded
    session.log_to_terminal()
    predictor = _loaded(session, run, assignments)
    if live is not None:
        from plait.cli.live import follow

        return follow(session, predictor, live, jsonl=jsonl)
    heard = "audio" in predictor.returns.values()
    given = read_inputs(inputs, input_file, predictor.accepts, optional=predictor.optional)
    results, total, failed = [], 0, 0
    for each, answer in answers(predictor, given, batch_size=batch_size):
        total, failed = total + 1, failed + (answer.error is not None)
        files = _written(answer, predictor, out, number=total, shown=each.shown)
        if as_json:
            results.append(_document(each, answer, files))
        elif jsonl:
            session.output.document(_document(each, answer, files))
        else:
            _print(session, each, answer, files)
    if as_json:
        session.output.document(results)
    if not total:
        session.say("there was no input")
    if heard and out is None:
        session.say("the recordings are not kept; name a directory for them: --out DIR")
    return 0 if not failed else 2 if failed == total else 1


def answers(
    predictor: Predictor | Composition, inputs: Iterable[Input], *, batch_size: int
) -> Iterator[tuple[Input, Prediction]]:
    """An answer for each input, in order. Memory holds what the model wants to see at once to sort it by length: one
    batch at first, for an early answer, then twice as much each time, up to `Predictor.ahead` batches."""
    from plait.task import Prediction

    source, at_once = iter(inputs), 1
    while batch := list(islice(source, batch_size * at_once)):
        at_once = min(2 * at_once, predictor.ahead)
        good = [each.value for each in batch if each.error is None]
        found = iter(predictor.predict(good, batch_size=batch_size))
        for each in batch:
            yield each, next(found) if each.error is None else Prediction(error=each.error)


def _loaded(session: Session, run: str, assignments: tuple[str, ...]) -> Predictor | Composition:
    from plait.predictor import load
    from plait.readymade import is_ready_made, ready_made

    if not assignments:
        return load(run, session.registry)
    if Path(run).is_dir() or not is_ready_made(run, session.registry):
        return load(run, session.registry, options=model_values(assignments))
    return ready_made(run, session.registry, assignments=assignments)


def _written(
    answer: Prediction, predictor: Predictor | Composition, out: Path | None, *, number: int, shown: Any
) -> dict[str, str]:
    """The files that an answer was written to, by port."""
    if out is None:
        return {}
    from plait.recordings import write_recordings

    return write_recordings(answer, predictor.returns, out, number=number, shown=shown)


def _document(given: Input, answer: Prediction, files: dict[str, str]) -> dict[str, Any]:
    if answer.error is not None:
        return {"input": given.shown, "error": answer.error}
    document = {"input": given.shown, "prediction": answer.prediction}
    if answer.scores is not None:
        document["scores"] = dict(answer.scores)
    return {**document, "files": files} if files else document


def _print(session: Session, given: Input, answer: Prediction, files: dict[str, str]) -> None:
    """Input, prediction (or its files) and its best score, separated by tabs; what failed goes to stderr."""
    shown = given.shown if isinstance(given.shown, str) else encoded(given.shown)
    if answer.error is not None:
        where = "" if answer.error.startswith(shown) else f"{shown}: "  # most errors name the input themselves
        print(f"error: {where}{answer.error}", file=sys.stderr, flush=True)
        return
    text = answer.prediction if isinstance(answer.prediction, str) else encoded(answer.prediction)
    text = "\t".join(files.values()) or text
    best = "" if not answer.scores else f"\t{max(answer.scores.values()):.4f}"
    session.output.text(f"{shown}\t{text}{best}")
