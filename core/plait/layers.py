"""Which sources does a recipe have, and what does each say where?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from plait.errors import RecipeError, did_you_mean

BLOCKS = ("model", "data", "trainer", "engine", "output")
TOP = ("task", *BLOCKS, "seed")


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of values.

    Args:
        origin: what `plait config` prints: "default", "digits.yaml", "environment", "--set".
        values: a tree of blocks.
        lines: line numbers by dotted path, where the source is a file.
    """

    origin: str
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def where(self, path: str) -> str:
        """The origin of a path in this layer, with its line where there is one."""
        return f"{self.origin}:{self.lines[path]}" if path in self.lines else self.origin


def read_recipe(path: Path) -> Layer:
    """The tree in a YAML file: plain values only, duplicate keys refused.

    Raises:
        RecipeError: names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RecipeError(f"{path}: no such recipe file", hint=did_you_mean(path.name, siblings)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a readable text file ({error})") from error
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, "", lines, path)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with the keys {', '.join(TOP)}")
    values.pop("schema", None)
    return Layer(path.name, values, lines)


def environment_layer(environ: Mapping[str, str] | None = None) -> Layer:
    """Values from variables such as PLAIT_TRAINER__EPOCHS and PLAIT_SEED."""
    values: dict[str, Any] = {}
    for name, text in sorted((os.environ if environ is None else environ).items()):
        if name == "PLAIT_SEED" or (name.startswith("PLAIT_") and "__" in name):
            _put(values, name.removeprefix("PLAIT_").lower().split("__"), parse_value(text))
    return Layer("environment", values)


def options_layer(assignments: Iterable[str], named: Mapping[str, Any] | None = None) -> Layer:
    """Values from `a.b=c` texts and from named options.

    Raises:
        RecipeError: a text without "=".
    """
    values: dict[str, Any] = {}
    for path, value in (named or {}).items():
        if value is not None:
            _put(values, path.split("."), value)
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set {text}: write it as path=value, such as trainer.epochs=3")
        _put(values, path.split("."), parse_value(value))
    return Layer("--set", values)


def parse_value(text: str) -> Any:
    """A JSON value where the text is one (3, 1e-3, true, null, [1, 2], {"a": 1}), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A tree from values by dotted path."""
    values: dict[str, Any] = {}
    for path, value in flat.items():
        _put(values, path.split("."), value)
    return values


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set the value at a path, making what is missing on the way; a mapping is merged into one that is there."""
    for part in path[:-1]:
        inner = values.get(part)
        if not isinstance(inner, dict):
            inner = values[part] = {}
        values = inner
    if isinstance(value, Mapping) and isinstance(values.get(path[-1]), dict):
        update(values[path[-1]], value)
    else:
        values[path[-1]] = dict(value) if isinstance(value, Mapping) else value


def update(values: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Merge another tree into `values`; its values win."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            update(values[key], value)
        else:
            values[key] = _copied(value)


def _copied(value: Any) -> Any:
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _walk(node: yaml.Node, prefix: str, lines: dict[str, int], path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise RecipeError(f"{path}:{line}: {prefix}{name} is given twice; the first is in line {seen[name]}")
        seen[name] = line
        lines[f"{prefix}{name}"] = line
        _walk(value, f"{prefix}{name}.", lines, path)
