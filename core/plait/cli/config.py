"""What exactly would be run, and where does each value come from? The verb `config`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from plait.cli.options import json_option
from plait.cli.recipe import Request, recipe_options
from plait.cli.session import Session

if TYPE_CHECKING:
    from plait.config import Recipe


@click.command()
@recipe_options
@json_option
@click.pass_obj
def config(session: Session, request: Request, as_json: bool) -> None:
    """Print the whole recipe and where each value comes from.

    TASK is a registered task or a recipe file (*.yaml). What is printed is itself a recipe file. With --json: recipe
    and origins.
    """
    from plait.config import resolve

    recipe = resolve(request.layers(session), session.registry)
    tree = recipe.as_json()
    if as_json:
        origins = {path: _origin(recipe, path) for path, _ in _leaves(tree)}
        session.output.document({"recipe": tree, "origins": origins})
        return
    for line in _lines(tree, recipe):
        session.output.text(line)


def _lines(tree: Mapping[str, Any], recipe: Recipe) -> Iterator[str]:
    """The tree as YAML, a value a line, each with its origin in a comment."""
    entries: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            entries.append((f"{key}:", ""))
            entries += [(f"  {name}: {_yaml(each)}", _origin(recipe, f"{key}.{name}")) for name, each in value.items()]
        else:
            entries.append((f"{key}: {_yaml(value)}", _origin(recipe, key)))
    width = min(44, max(len(text) for text, _ in entries))
    for text, origin in entries:
        yield f"{text:{width}}  # {origin}" if origin else text


def _origin(recipe: Recipe, path: str) -> str:
    """The origin of a value; of a mapping or list that several sources filled, all of them."""
    found = [origin for each, origin in recipe.origins.items() if each == path or each.startswith(f"{path}.")]
    return ", ".join(dict.fromkeys(found)) or "default"


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", each) for name, each in value.items())
        else:
            yield key, value


def _yaml(value: Any) -> str:
    """A value on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True, sort_keys=False)
    return str(text).removesuffix("...\n").strip()
