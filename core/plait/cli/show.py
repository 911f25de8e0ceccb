"""What does a registered name accept, return, and let one set? The verb `show`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from plait.cli.listing import describe
from plait.cli.options import complete_names, json_option
from plait.cli.session import Session
from plait_registry.errors import AmbiguousNameError, UnknownNameError, did_you_mean
from plait_registry.registry import KINDS, Entry, Registry
from plait_registry.specs import AdapterSpec, DatasetSpec, ModelSpec, PortSpec, TaskSpec

_BLOCKS = {"task": "data", "model": "model", "trainer": "trainer", "engine": "engine"}
"""Which block of a recipe holds the options of a kind."""


@click.command()
@click.argument("name", shell_complete=complete_names)
@click.option("--kind", metavar="K", help="Where a model and a data set, say, have the same name.")
@json_option
@click.pass_obj
def show(session: Session, name: str, kind: str | None, as_json: bool) -> None:
    """Show what NAME accepts, returns, and can be set to.

    NAME is anything that `plait list` prints, a port or an adapter; `timm/` lists the members of a family.
    """
    entry = find(session.registry, name, kind)
    document = {**describe(entry), **_facts(entry, session.registry), **_implementation(entry, name)}
    location = entry.location()
    document["location"] = None if location is None else str(location)
    if as_json:
        session.output.document(document)
    else:
        _print(session, entry, document)


def find(registry: Registry, name: str, kind: str | None) -> Entry:
    """The one entry of that name, of any kind.

    Raises:
        UnknownNameError: there is none.
        AmbiguousNameError: there are several.
    """
    wanted = f"{name}*" if name.endswith("/") else name
    if kind is not None:
        return registry.find(kind, wanted)
    found = []
    for each in KINDS:
        try:
            found.append(registry.find(each, wanted))
        except UnknownNameError:
            continue
    if len(found) > 1:
        kinds = " and ".join(each.kind for each in found)
        raise AmbiguousNameError(f"{name!r} is the name of several things: {kinds}", hint="choose with --kind")
    if not found:
        near = did_you_mean(name, (entry.name for entry in registry.entries()))
        try:
            registry.find("model", wanted)  # knows which plugin is broken, and which pip command would bring the name
        except UnknownNameError as error:
            hint = error.hint if "pip install" in str(error.hint) or "not loaded" in str(error.hint) else None
            raise UnknownNameError(
                f"nothing that is installed is called {name!r}", hint=hint or near or "`plait list` shows what is"
            ) from None
    return found[0]


def _facts(entry: Entry, registry: Registry) -> dict[str, Any]:
    """What the spec says, without importing anything."""
    spec = entry.spec
    facts: dict[str, Any] = {"accepts": {}, "returns": {}, "models": []}
    if isinstance(spec, TaskSpec):
        metric = spec.primary_metric
        facts |= {"accepts": dict(spec.accepts), "returns": dict(spec.returns)}
        facts |= {"models": [model.name for model in registry.models_for(entry.qualified)]}
        facts |= {"default_model": spec.default_model, "baselines": list(spec.baselines), "demo_data": spec.demo_data}
        facts |= {"primary_metric": None if metric is None else metric._asdict()}
    elif isinstance(spec, ModelSpec):
        facts |= {"tasks": list(spec.tasks), "trainer": spec.trainer, "defaults": dict(spec.defaults)}
        facts["requires"] = spec.requires
    elif isinstance(spec, DatasetSpec):
        facts |= {"tasks": list(spec.tasks), "synthetic": spec.synthetic, "license": spec.license}
        facts["requires"] = spec.requires
    elif isinstance(spec, AdapterSpec):
        facts |= {"accepts": {"value": spec.source}, "returns": {"value": spec.returns}}
    return facts


def _implementation(entry: Entry, name: str) -> dict[str, Any]:
    """What only the imported implementation knows: its options, and a family's members."""
    if entry.kind == "engine":
        from plait.options import EngineOptions

        return {"options": EngineOptions.model_json_schema()}
    if isinstance(entry.spec, PortSpec) or entry.kind not in _BLOCKS:
        return {"options": {}}
    implementation = entry.resolve()
    found: dict[str, Any] = {"options": implementation.Options.model_json_schema()}
    if isinstance(entry.spec, ModelSpec) and entry.spec.is_family:
        prefix = entry.name.removesuffix("*")
        members = [prefix + variant for variant in implementation.variants()]
        member = name.rpartition(":")[2]
        if member.endswith(("/", "/*")):
            found["variants"] = members
        elif members and member not in members:
            raise UnknownNameError(
                f"{member!r} is not a member of the family {entry.name} ({len(members):,} members)",
                hint=did_you_mean(member, members) or f"`plait show {prefix}` lists them",
            )
        else:
            found["name"] = member
    return found


def _print(session: Session, entry: Entry, document: Mapping[str, Any]) -> None:
    output = session.output
    if "variants" in document:
        for variant in document["variants"]:
            output.text(variant)
        return
    output.text(f"{document['name']}  ({entry.kind})")
    output.text(document["summary"])
    output.text()
    for label, value in _lines(document):
        output.text(f"{label:15}{value}")
    output.text(f"{'plugin':15}{entry.plugin} ({entry.owner})")
    output.text(f"{'location':15}{document['location'] or 'no source file'}")
    options = document["options"]
    if options.get("properties"):
        output.text()
        output.table(("option", "type", "default", "meaning"), _rows(options, _BLOCKS[entry.kind]))


def _lines(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("accepts", "returns"):
        if document[key]:
            yield key, ", ".join(f"{port} ({kind})" for port, kind in document[key].items())
    for key in ("models", "tasks", "baselines"):
        if document.get(key):
            yield key, ", ".join(document[key])
    if document.get("requires"):
        yield "requires", f'pip install "{document["requires"]}"'
    for key in ("default_model", "demo_data", "license"):
        if document.get(key):
            yield key.replace("_", " "), document[key]
    if document.get("primary_metric"):
        metric = document["primary_metric"]
        yield "judged by", f"{metric['name']} ({'higher' if metric['higher_is_better'] else 'lower'} is better)"
    if "trainer" in document:
        trainer = document["trainer"]
        yield "trainer", f"{trainer}  (options: plait show {trainer})" if trainer else "none: it only predicts"
    for path, value in document.get("defaults", {}).items():
        yield "sets", f"{path}={json.dumps(value)}"
    if document.get("synthetic"):
        yield "data", "synthetic: generated, not measured in the world"


def _rows(schema: Mapping[str, Any], block: str) -> Iterator[tuple[str, str, str, str]]:
    definitions = schema.get("$defs", {})
    for name, field in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else ""
        if "default" in field:
            default = json.dumps(field["default"])
        yield f"{block}.{name}", _type(field, definitions), default, field.get("description", "")


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema's type as a reader of `--set` wants it."""
    if "$ref" in field:
        return _type(definitions.get(field["$ref"].rpartition("/")[2], {}), definitions)
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " | ".join(dict.fromkeys(_type(each, definitions) for each in field[key]))
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        inner = field.get("items") or {}
        return f"list of {_type(inner, definitions)}" if inner else "list"
    return str(field.get("type", "any"))
