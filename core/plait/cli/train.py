"""How is a model fitted from the command line? The verb `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from plait.cli.options import json_option
from plait.cli.recipe import Request, recipe_options
from plait.cli.session import Session

if TYPE_CHECKING:
    from plait.config import Recipe
    from plait.run import Run


resume_option = click.option("--resume", is_flag=True, help="Go on with the run in --out; TASK may then be left out.")


@click.command()
@recipe_options
@resume_option
@json_option
@click.pass_obj
def train(session: Session, request: Request, resume: bool, as_json: bool) -> None:
    """Fit a model to a task's data.

    TASK is a registered task (`plait list --kind task`) or a recipe file (*.yaml). The run directory holds the recipe,
    metrics, checkpoints, the model and a report. With --json: run, task, model, metrics, seconds, engine, processes.
    """
    from plait.config import resolve
    from plait.engine.world import World

    session.log_to_terminal()
    recipe = resolve(request.layers(session, resume=resume), session.registry)
    run = fit(session, recipe, resume=resume)
    if World.find().rank == 0:  # torchrun or srun may have started this command several times: one of them answers
        answer(session, run, as_json=as_json)


def fit(session: Session, recipe: Recipe, *, resume: bool) -> Run:
    """Carry out a recipe, with progress on stderr."""
    from plait.cli.memory import keep_freed_memory
    from plait.fitting import fit_recipe

    keep_freed_memory()
    return fit_recipe(recipe, session.registry, resume=resume, display=session.display())


def answer(session: Session, run: Run, *, as_json: bool) -> None:
    """Print what came of a run."""
    if as_json:
        session.output.document(run.document())
        return
    from plait.cli.outcome import show_run

    show_run(session, run)
