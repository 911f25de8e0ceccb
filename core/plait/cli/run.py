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
    from plait.config import Recipe
    from plait.layers import Layer


@click.command()
@recipe_options
@resume_option
@json_option
@click.pass_obj
def run(session: Session, request: Request, resume: bool, as_json: bool) -> None:
    """Train, evaluate and report; on demo data where none are given.

    TASK is a registered task or a recipe file (*.yaml). A model that only predicts answers for the first examples.
    """
    from plait.config import resolve

    session.log_to_terminal()
    layers = request.layers(session, resume=resume)
    recipe = resolve([*_demo_data(layers, session), *layers], session.registry)
    if recipe.trainer_type is None:
        _demonstrate(session, recipe, resume=resume, as_json=as_json)
    else:
        answer(session, fit(session, recipe, resume=resume), as_json=as_json)


def _demo_data(layers: list[Layer], session: Session) -> list[Layer]:
    """The weakest source: the demo data of the task that the others name."""
    from plait.layers import Layer

    names: list[Any] = [layer.values["task"] for layer in layers if layer.values.get("task") is not None]
    if not names:
        return []
    spec = session.registry.task(str(names[-1])).spec
    assert isinstance(spec, TaskSpec)
    return [] if spec.demo_data is None else [Layer("demo data", {"data": {"source": spec.demo_data}})]


def _demonstrate(session: Session, recipe: Recipe, *, resume: bool, as_json: bool) -> None:
    from plait.demonstration import demonstrate

    shown = demonstrate(recipe, session.registry, resume=resume)
    document = shown.document()
    if as_json:
        session.output.document(document)
        return
    answer(session, shown.run, as_json=False)
    if shown.answers:
        session.output.text()
        rows = [
            (each["input"], " ".join(each.get("files", {}).values()) or each["prediction"])
            for each in document["predictions"]
        ]
        session.output.table(("input", "prediction"), rows)
