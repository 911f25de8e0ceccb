"""How does somebody start a plugin? The verb `new`."""

from __future__ import annotations

import keyword
import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from plait.cli.options import json_option
from plait.cli.session import Session
from plait.errors import PlaitError
from plait_registry.registry import PROVIDERS

_TEMPLATE = "sprout"
"""What the template calls itself, everywhere in its files and their names; it is itself a plugin that works."""


class NewPluginError(PlaitError):
    """A plugin cannot be started: its name is unfit, or its directory exists."""


@click.group(subcommand_metavar="plugin NAME")
def new() -> None:
    """Start a plugin from a working template."""


@new.command(short_help="Write a package that installs and trains as it is.")
@click.argument("name")
@click.option("--dir", "parent", type=click.Path(path_type=Path), default=".", help="Where to put it; default: here.")
@json_option
@click.pass_obj
def plugin(session: Session, name: str, parent: Path, as_json: bool) -> None:
    """Write a package with a small task, a model and tests, that installs and trains as it is.

    NAME becomes the distribution plait-NAME, the package plait_NAME and the modality NAME. With --json: directory,
    distribution, files.
    """
    _check_name(name)
    directory = parent / f"plait-{name.replace('_', '-')}"
    if directory.exists():
        raise NewPluginError(f"{directory}: exists already", hint="choose another NAME, or another --dir")
    try:
        written = write_plugin(name, directory)
    except OSError as error:
        raise NewPluginError(f"{directory}: could not be written: {error.strerror or error}") from error
    if as_json:
        listed = [path.relative_to(directory).as_posix() for path in written]
        session.output.document({"directory": str(directory), "distribution": directory.name, "files": listed})
        return
    for path in written:
        session.output.text(str(path))
    session.output.text()
    session.output.text("next:")
    for line in (
        f"pip install -e {shlex.quote(str(directory))}", f"plait show {name}/row-classification",
        f"plait run {name}/row-classification", f"plait plugins check {name}",
    ):  # fmt: skip
        session.output.text(f"  {line}")


def write_plugin(name: str, directory: Path) -> list[Path]:
    """Fill a new directory from the template; gives the files, in order."""
    hyphened = name.replace("_", "-")
    written = []
    for path, source in _walk(files("plait.cli") / "templates" / "plugin", ""):
        # a distribution's name has hyphens, a module's underscores; the template's own name has neither
        target = directory / path.replace(_TEMPLATE, name)
        text = source.read_text(encoding="utf-8")
        for placeholder, own in (
            (f"plait-{_TEMPLATE}", f"plait-{hyphened}"), (f"{_TEMPLATE}-row", f"{hyphened}-row"), (_TEMPLATE, name),
        ):  # fmt: skip
            text = text.replace(placeholder, own)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _walk(directory: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for each in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if each.is_dir() and each.name != "__pycache__":
            yield from _walk(each, f"{prefix}{each.name}/")
        elif each.is_file():
            yield f"{prefix}{each.name}", each


def _check_name(name: str) -> None:
    taken = sorted({"core", "plait", "registry", _TEMPLATE, *PROVIDERS})
    if not re.fullmatch(r"[a-z](?:_?[a-z0-9])*", name) or keyword.iskeyword(name):
        better = re.sub(r"\W+|_+", "_", name.lower().removeprefix("plait")).strip("_")
        hint = f"try {better}" if re.fullmatch(r"[a-z](?:_?[a-z0-9])*", better) else "such as: weather"
        raise NewPluginError(
            f"{name!r} cannot name a plugin: expected lower-case letters, digits and underscores, a letter first",
            hint=hint,
        )
    if name in taken:
        raise NewPluginError(f"{name!r} is taken by Plait's own packages", hint="choose another name")
