"""What would a training take? The verb `plan`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from plait.cli.options import json_option
from plait.cli.recipe import Request, recipe_options
from plait.cli.session import Session

if TYPE_CHECKING:
    from plait.planning import Plan

_UNITS = {"": 2**30, "G": 2**30, "M": 2**20, "T": 2**40}
"""Bytes of each unit of memory."""
_COLUMNS = {
    "weights": 11, "gradients": 11, "optimizer": 11, "activations": 13, "buckets": 11, "on host": 11, "on disk": 11,
    "device peak": 13,
}  # fmt: skip
"""The columns of the table and their widths."""


def read_memory(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Bytes from gigabytes, or a number with M, G or T: 80, 80G, 24GiB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]?)(?:I?B)?", text.strip().upper())
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{text!r} is no amount of memory; write 80G or 24GiB", ctx, param)
    return round(float(found[1]) * _UNITS[found[2]])


@click.command()
@recipe_options
@click.option("--gpu-memory", metavar="G", callback=read_memory, help="What one device has, such as 80G: what fits?")
@json_option
@click.pass_obj
def plan(session: Session, request: Request, gpu_memory: int | None, as_json: bool) -> None:
    """Say what a training would take: steps, and memory by ZeRO stage.

    The data are read and one forward is run on the CPU; nothing is trained and no GPU is needed. With --json:
    parameters, trained, processes, examples, batch_size, micro_batch_size, accumulation, steps_per_epoch, steps,
    memory, fits.
    """
    from plait.config import resolve
    from plait.planning import plan as reckon

    found = reckon(resolve(request.layers(session), session.registry), session.registry)
    fitting = [each for each in found.memory if gpu_memory is None or each.peak <= gpu_memory]
    if as_json:
        fits = None if gpu_memory is None else [[each.zero_stage, each.offload] for each in fitting]
        session.output.document(found.as_json() | {"fits": fits})
        return
    for line in _lines(found, gpu_memory):
        session.output.text(line)


def _counted(number: int, name: str, ending: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else ending}"


def _lines(found: Plan, limit: int | None) -> list[str]:
    lines = [
        f"{found.parameters:,} parameters, {found.trained:,} of them trained",
        f"{found.examples:,} examples, batch {found.batch_size} on {_counted(found.processes, 'process', 'es')}: "
        f"{_counted(found.accumulation, 'forward', 's')} of {found.micro_batch_size} each; "
        f"{found.steps_per_epoch:,} steps an epoch, {found.steps:,} in all",
        "",
        f"{'MiB a process':<20}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items()),
    ]
    for number, each in enumerate(found.memory):
        name = f"stage {each.zero_stage}" + (f" offload={each.offload}" if each.offload else "")
        values = (
            each.weights, each.gradients, each.optimizer, each.activations, each.buckets, each.host, each.disk,
            each.peak,
        )  # fmt: skip
        text = "".join(f"{value / 2**20:>{width},.1f}" for value, width in zip(values, _COLUMNS.values(), strict=True))
        said = "" if limit is None else "  fits" if each.peak <= limit else "  too large"
        lines.append(f"{name:<20}{text}{said}" + ("  <- the recipe" if not number else ""))
    return lines
