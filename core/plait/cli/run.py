"""What does a task look like at work? The verb `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from plait.cli.options import json_option
from plait.cli.recipe import Request, recipe_options
from plait.cli.session import Session
from plait.cli.train import answer, fit, resume_option
from plait_registry.specs import TaskSpec

if TYPE_CHECKING:
    from plait.config import Layer
    from plait.run import Run

_SHOWN = 8  # predictions of a model that only predicts


@click.command()
@recipe_options
@resume_option
@json_option
@click.pass_obj
def run(session: Session, request: Request, resume: bool, as_json: bool) -> None:
    """Train, evaluate and report, on the task's demo data where none are given.

    TASK is a registered task or a recipe file (*.yaml). A model that only predicts answers for the demo data.
    """
    layers = request.layers(session, resume=resume)
    if not resume:
        layers = [*_demo_data(layers, session), *layers]
    made = fit(session, layers, resume=resume, untrained=True)
    answer(session, made, as_json=as_json)
    if not as_json and made.info.get("reason") == "only predicts":
        show_predictions(session, made)


def show_predictions(session: Session, made: Run) -> None:
    """What a model that only predicts says of the first examples of its data."""
    from plait.api import load_examples

    examples, answers = load_examples(made, session.registry, most=_SHOWN)
    session.output.text()
    rows = [(getattr(each, "id", number), given.prediction) for number, (each, given) in enumerate(zip(examples, answers, strict=True))]
    session.output.table(("input", "prediction"), rows)


def _demo_data(layers: list[Layer], session: Session) -> list[Layer]:
    """The weakest source: the demo data of the task that the others name."""
    from plait.config import Layer

    names: list[Any] = [layer.values["task"] for layer in layers if layer.values.get("task") is not None]
    if not names:
        return []
    spec = session.registry.task(str(names[-1])).spec
    assert isinstance(spec, TaskSpec)
    return [] if spec.demo_data is None else [Layer("demo data", {"data": {"source": spec.demo_data}})]
