"""How do predictors become one predictor?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.artifact import load_model
from plait.errors import CompositionError, InputError, PlaitError
from plait.predictor import Predictor, checked, named
from plait.sealed import publish, seal, storage, verify
from plait.task import Prediction
from plait_registry.registry import Registry
from plait_registry.specs import AdapterSpec

COMPOSITION = "composition.json"
SCHEMA = 1


class Adapter:
    """A registered conversion between two port types, as a stage of a composition."""

    def __init__(self, name: str, *, source: str, returns: str, convert: Callable[[Any], Any]) -> None:
        self.name = name
        self.accepts: Mapping[str, str] = {source.replace("-", "_"): source}
        self.optional: tuple[str, ...] = ()
        self.ahead = 1
        self.returns: Mapping[str, str] = {returns.replace("-", "_"): returns}
        self._convert = convert

    def stream(self, inputs: Sequence[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """One converted value for each input, in order."""
        port = next(iter(self.returns))
        for value in inputs:
            try:
                converted = self._convert(next(iter(named(value, self.accepts).values())))
            except (PlaitError, ValueError, TypeError, KeyError) as error:  # what a conversion says of a bad value
                yield Prediction(error=str(error))
            else:
                yield Prediction(prediction=converted, outputs={port: converted})

    def __or__(self, other: Stage) -> Composition:
        return compose(self, other)


class Composition:
    """Predictors and adapters in a row; each stage gets what the one before it returned. It is itself a predictor.

    Ports that no earlier stage feeds are ports of the composition.

    Args:
        stages: two or more.
        links: for each stage after the first, which of its input ports gets which output port of the stage before.
    """

    def __init__(self, stages: Sequence[Predictor | Adapter], links: Sequence[Mapping[str, str]]) -> None:
        self.stages = tuple(stages)
        self.links = tuple(dict(link) for link in links)
        self.accepts: Mapping[str, str] = dict(stages[0].accepts)
        self.optional: tuple[str, ...] = tuple(stages[0].optional)
        for stage, link in zip(stages[1:], links, strict=True):
            for port, kind in stage.accepts.items():
                if port in link:
                    continue
                if port in self.accepts:
                    if port in stage.optional:
                        continue  # it means another stage's port
                    raise CompositionError(f"two stages take a port called {port!r} from outside")
                self.accepts = {**self.accepts, port: kind}
                self.optional += (port,) if port in stage.optional else ()
        self.returns: Mapping[str, str] = stages[-1].returns

    @property
    def name(self) -> str:
        """The stages' names."""
        return " | ".join(stage.name for stage in self.stages)

    @property
    def ahead(self) -> int:
        """As `Predictor.ahead`: what the stage that looks furthest wants."""
        return max(stage.ahead for stage in self.stages)

    def __call__(self, inputs: Any) -> Any:
        """As `Predictor.__call__`."""
        if isinstance(inputs, list | tuple):
            return list(checked(self.predict(inputs)))
        return next(checked(self.predict([inputs])))

    def predict(self, inputs: Sequence[Any], *, batch_size: int = 64) -> list[Prediction]:
        """As `Predictor.predict`; an input that fails in one stage keeps that stage's error."""
        return list(self.stream(inputs, batch_size=batch_size))

    def stream(self, inputs: Sequence[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """The same, as many at a time as a stage wants to see at once."""
        size = batch_size * self.ahead
        for first in range(0, len(inputs), size):
            yield from self._batch(inputs[first : first + size], batch_size)

    def _batch(self, inputs: Sequence[Any], batch_size: int) -> list[Prediction]:
        answers: dict[int, Prediction] = {}
        given: dict[int, Mapping[str, Any]] = {}
        for position, value in enumerate(inputs):
            try:
                given[position] = named(value, self.accepts, self.optional)
            except InputError as error:
                answers[position] = Prediction(error=error.message)
        first = self.stages[0].accepts
        alive = {
            position: {port: given[position][port] for port in first if port in given[position]} for position in given
        }
        for number, stage in enumerate(self.stages):
            results = dict(zip(alive, stage.stream(list(alive.values()), batch_size=batch_size), strict=True))
            alive = {}
            for position, result in results.items():
                if result.error is not None:
                    answers[position] = Prediction(error=f"{stage.name}: {result.error}")
                elif number == len(self.stages) - 1:
                    answers[position] = result
                else:
                    alive[position] = self._inputs(number, result, given[position])
        return [answers[position] for position in range(len(inputs))]

    def _inputs(self, number: int, result: Prediction, given: Mapping[str, Any]) -> dict[str, Any]:
        link = self.links[number]
        return {
            port: result.outputs[link[port]] if port in link else given[port]
            for port in self.stages[number + 1].accepts
            if port in link or port in given
        }

    def __or__(self, other: Stage) -> Composition:
        return compose(self, other)

    def save(self, path: str | Path) -> Path:
        """Write a directory that holds the parts' models whole; `plait.load` and `plait predict` read it.

        Raises:
            CompositionError: the path exists.
        """
        directory = Path(path)
        if directory.exists():
            raise CompositionError(f"{directory}: exists already", hint="choose another path")
        temporary = directory.with_name(f".{directory.name}.writing")
        with storage(f"{directory}: the composition could not be written"):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            described: list[dict[str, str]] = []
            for number, stage in enumerate(self.stages):
                if isinstance(stage, Adapter):
                    described.append({"adapter": stage.name})
                    continue
                described.append({"model": f"part-{number}"})
                if stage.path is None:
                    stage.artifact.save(temporary / f"part-{number}")
                    continue
                source = stage.path if (stage.path / "plait.json").is_file() else stage.path / "model"
                verify(source)
                shutil.copytree(source, temporary / f"part-{number}")
            body = {"schema": SCHEMA, "stages": described, "links": list(self.links)}
            (temporary / COMPOSITION).write_text(json.dumps(body, indent=1), encoding="utf-8")
            seal(temporary)
            publish(temporary, directory)
        return directory


Stage = Predictor | Adapter | Composition


def compose(*stages: Stage, connect: Mapping[str, str] | None = None, registry: Registry | None = None) -> Composition:
    """Chain predictors: what one returns, the next accepts. Checked here, not when the first input comes.

    Args:
        stages: predictors, adapters (`plait.adapter(name)`), compositions.
        connect: input port of the second stage -> output port of the first, where types alone do not decide.

    Raises:
        CompositionError: names both ports, and a registered adapter that would fit.
    """
    if len(stages) < 2:
        raise CompositionError("a composition has two stages at least")
    if connect and len(stages) != 2:
        raise CompositionError("connect= names ports of two stages; compose two at a time")
    flat: list[Predictor | Adapter] = []
    links: list[Mapping[str, str]] = []
    for stage in stages:
        parts = stage.stages if isinstance(stage, Composition) else (stage,)
        if flat:
            links.append(_link(flat[-1], parts[0], connect or {}, registry))
        if isinstance(stage, Composition):
            links.extend(stage.links)
        flat.extend(parts)
    return Composition(flat, links)


def adapter(name: str, registry: Registry | None = None) -> Adapter:
    """A registered adapter as a stage.

    Raises:
        UnknownNameError: no plugin offers it; near names are in the hint.
    """
    entry = (registry or Registry.discover()).adapter(name)
    assert isinstance(entry.spec, AdapterSpec)
    return Adapter(entry.name, source=entry.spec.source, returns=entry.spec.returns, convert=entry.resolve())


def load_composition(directory: Path, registry: Registry) -> Composition:
    """Read what `Composition.save` wrote."""
    verify(directory)
    body = json.loads((directory / COMPOSITION).read_text(encoding="utf-8"))
    if body.get("schema") != SCHEMA:
        raise CompositionError(
            f"{directory / COMPOSITION}: schema version {body.get('schema')}; this plait reads {SCHEMA}",
            hint="pip install --upgrade plait",
        )
    stages: list[Predictor | Adapter] = []
    for described in body["stages"]:
        if "adapter" in described:
            stages.append(adapter(described["adapter"], registry))
        else:
            part = directory / described["model"]
            stages.append(Predictor(load_model(part, registry), path=part))
    return Composition(stages, body["links"])


def label_to_text(label: str) -> str:
    """The adapter `label-to-text`."""
    return str(label)


def _link(
    first: Predictor | Adapter, second: Predictor | Adapter, connect: Mapping[str, str], registry: Registry | None
) -> dict[str, str]:
    for port, source in connect.items():
        if port not in second.accepts or source not in first.returns:
            raise CompositionError(
                f"connect={{{port!r}: {source!r}}}: {second.name} accepts {_ports(second.accepts)}, "
                f"{first.name} returns {_ports(first.returns)}"
            )
        if second.accepts[port] != first.returns[source]:
            _refuse(first, source, second, port, registry)
    link = dict(connect)
    for port, kind in second.accepts.items():
        if port in link:
            continue
        taken = connect.values()  # an output that is named for one port does not feed another unasked
        sources = [source for source, given in first.returns.items() if given == kind and source not in taken]
        rivals = [other for other, wanted in second.accepts.items() if wanted == kind and other not in connect]
        if len(sources) == 1 and len(rivals) == 1:
            link[port] = sources[0]
        elif sources and not link:
            raise CompositionError(
                f"{first.name} returns {_ports(first.returns)} and {second.name} accepts {_ports(second.accepts)}: "
                f"types alone do not say which port feeds {port!r}",
                hint=f"compose(a, b, connect={{{port!r}: {sources[0]!r}}})",
            )
    if not link:
        _refuse(first, next(iter(first.returns)), second, next(iter(second.accepts)), registry)
    return link


def _refuse(
    first: Predictor | Adapter, source: str, second: Predictor | Adapter, port: str, registry: Registry | None
) -> None:
    given, wanted = first.returns[source], second.accepts[port]
    fitting = [entry.name for entry in (registry or Registry.discover()).adapters_between(given, wanted)]
    hint = f"no registered adapter turns {given} into {wanted}"
    if fitting:
        hint = f"a registered adapter fits: compose(a, plait.adapter({fitting[0]!r}), b)"
    raise CompositionError(
        f"{first.name} returns {source!r} of type {given}, and {second.name} accepts {port!r} of type {wanted}",
        hint=hint,
    )


def _ports(ports: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in ports.items())
