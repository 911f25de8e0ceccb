"""Which options of a fitted model may be changed without fitting it again, and how?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from plait.errors import RunError
from plait.options import ModelOptions

MARK = "may_change_afterwards"


def changed(options: ModelOptions, changes: Mapping[str, Any]) -> ModelOptions:
    """A fitted model's options with other values.

    Args:
        changes: values by option, blocks as mappings: {"decoding": {"beam": 8}}.

    Raises:
        RunError: one of them is as it was fitted, or the value is wrong.
    """
    allowed = list(_marked(type(options)))
    for path in _paths(changes):
        if path not in allowed:
            known = f"what may be changed: {', '.join(f'model.{each}' for each in allowed)}" if allowed else None
            raise RunError(f"model.{path} of a fitted {options.name} is as it was fitted", hint=known)
    try:
        return type(options).model_validate(_merged(options.as_json(), changes))
    except ValidationError as error:
        said = "; ".join(f"model.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise RunError(said) from error


def _marked(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The options that say of themselves that they may be changed, by path."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _marked(field.annotation, f"{prefix}{name}.")
        elif isinstance(field.json_schema_extra, Mapping) and field.json_schema_extra.get(MARK):
            yield f"{prefix}{name}"


def _paths(changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for name, value in changes.items():
        result[name] = _merged(result[name], value) if isinstance(value, Mapping) else value
    return result
