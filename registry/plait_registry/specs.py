"""What can a plugin offer, as plain data that prints without importing any implementation?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

from plait_registry.errors import SpecError

PLUGIN_API = 1
"""The version of hooks and specs in this package. A plugin states what it supports as `plait_api = 1` or `(1, 2)`."""

_PART = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_FAMILY = re.compile(rf"{_PART}(?:/{_PART})*/\*")
_PORT = re.compile(r"[a-z][a-z0-9-]*")
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(?:\[[\w.,-]+\])?(?:[<>=!~][^\s;]+)?")
_TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Metric(NamedTuple):
    """A metric's name and its direction."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One thing that a plugin offers: a name, one line about it, and where its code lives. It imports nothing.

    Args:
        name: lower case, parts joined by "/": "vision/image-classification".
        summary: one line for `plait list`.
        target: "package.module:attribute", imported when the thing is used.
    """

    kind: ClassVar[str] = ""

    name: str
    summary: str
    target: str

    def __post_init__(self) -> None:
        where = f"{type(self).__name__} {self.name!r}"
        for each in fields(self):
            _freeze(self, each.name)
        if not isinstance(self.name, str) or not self._name_pattern().fullmatch(self.name):
            raise SpecError(f"{where}: a name is lower-case parts joined by '/', such as 'vision/image-classification'")
        if not isinstance(self.summary, str) or not self.summary.strip() or "\n" in self.summary:
            raise SpecError(f"{where}: summary must be one non-empty line of text, not {self.summary!r}")
        if not isinstance(self.target, str) or not _TARGET.fullmatch(self.target):
            raise SpecError(f"{where}: target must read 'package.module:attribute', not {self.target!r}")
        self._check(where)

    @property
    def modality(self) -> str | None:
        """The first part of the name ("vision"), or None for what serves every modality."""
        return self.name.split("/", 1)[0]

    @classmethod
    def _name_pattern(cls) -> re.Pattern[str]:
        return _NAME

    def _check(self, where: str) -> None:
        """Raise SpecError where a field of the subclass is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec(Spec):
    """What is learned.

    Args:
        accepts: named input ports and their types: {"image": "image"}, {"question": "text", "context": "text"}.
        returns: named output ports: {"label": "label"}.
        optional: input ports that may be left out; the task says which it needs together. A bare value goes to the only
            port that is not optional, or to the first where all are.
        primary_metric: the metric that early stopping and comparison use; None for a predict-only task.
        models: names of models that its author recommends, in order; a model may also name the task itself.
        default_model: the model that `plait run TASK` uses; one of `models` where None.
        baselines: models that every report prints beside the trained one; they must be cheap to fit.
        demo_data: name of a registered data set that `plait run TASK` uses when no data are given.
    """

    kind: ClassVar[str] = "task"

    accepts: Mapping[str, str]
    returns: Mapping[str, str]
    optional: tuple[str, ...] = ()
    primary_metric: Metric | None = None
    models: tuple[str, ...] = ()
    default_model: str | None = None
    baselines: tuple[str, ...] = ()
    demo_data: str | None = None

    def _check(self, where: str) -> None:
        if "/" not in self.name:
            raise SpecError(f"{where}: a task's name starts with its modality, such as 'vision/{self.name}'")
        for side in ("accepts", "returns"):
            ports = getattr(self, side)
            if not isinstance(ports, Mapping) or not ports:
                raise SpecError(f"{where}: {side} must map port names to port types, such as {{'image': 'image'}}")
            for port, type_ in ports.items():
                if not (isinstance(port, str) and _FIELD.fullmatch(port)):
                    raise SpecError(f"{where}: {side} has {port!r}; a port's name is lower case with underscores")
                if not (isinstance(type_, str) and _PORT.fullmatch(type_)):
                    raise SpecError(f"{where}: {side}[{port!r}] is {type_!r}; a port's type is a registered name")
        _check_names(where, "optional", self.optional)
        unknown = [port for port in self.optional if port not in self.accepts]
        if unknown:
            raise SpecError(f"{where}: optional has {', '.join(map(repr, unknown))}, which accepts has not")
        if self.primary_metric is not None:
            metric = self.primary_metric
            if not (isinstance(metric, tuple) and len(metric) == 2 and isinstance(metric[0], str)):
                raise SpecError(f"{where}: primary_metric must read Metric('accuracy', True), not {metric!r}")
            if not isinstance(metric[1], bool):
                raise SpecError(f"{where}: primary_metric's second part says whether higher is better: True or False")
            object.__setattr__(self, "primary_metric", Metric(*metric))  # a plain tuple is fine to write, not to read
        _check_names(where, "models", self.models)
        _check_names(where, "baselines", self.baselines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Spec):
    """What is fitted: one model ("vision/cnn"), or a family ("timm/*") whose class lists its variants.

    Args:
        tasks: the tasks that it serves; a stranger's model may serve our task.
        trainer: "gradient", "iterative", a plugin's own, or None for a model that only predicts.
        conformance: tiny variants that the conformance suite trains; each maps recipe keys to values, such as
            {"model.name": "timm/resnet10t", "trainer.epochs": 2}, and is for every task of the model, or for the one
            that its key "task" names. Empty: the defaults are tiny enough.
        defaults: recipe values that suit the model better than the trainer's own: {"trainer.epochs": 20}.
        in_modality: where the name does not start with a modality (a family such as "timm/*"), the modality.
        requires: what pip installs to have what the model needs, where that is an extra ("plait-speech[hmmlearn]").
        early: "package.module:function" of a module that imports nothing heavy, called with the values of a recipe's
            `model` block before anything is imported for it; it raises a PlaitError where they cannot do, such as a
            directory that is not there.
    """

    kind: ClassVar[str] = "model"

    tasks: tuple[str, ...]
    trainer: str | None
    conformance: tuple[Mapping[str, Any], ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_modality: str | None = None
    requires: str | None = None
    early: str | None = None

    @property
    def modality(self) -> str | None:
        return self.in_modality or self.name.split("/", 1)[0]

    @property
    def is_family(self) -> bool:
        return self.name.endswith("/*")

    @classmethod
    def _name_pattern(cls) -> re.Pattern[str]:
        return re.compile(f"{_NAME.pattern}|{_FAMILY.pattern}")

    def _check(self, where: str) -> None:
        if "/" not in self.name:
            raise SpecError(f"{where}: a model's name has a modality or a family before '/', such as 'vision/cnn'")
        _check_names(where, "tasks", self.tasks)
        if not self.tasks:
            raise SpecError(f"{where}: tasks must name at least one task that the model serves")
        _check_requires(where, self.requires)
        if self.early is not None and not (isinstance(self.early, str) and _TARGET.fullmatch(self.early)):
            raise SpecError(f"{where}: early must read 'package.module:function', not {self.early!r}")
        if self.trainer is not None and not isinstance(self.trainer, str):
            raise SpecError(f"{where}: trainer must be a registered trainer's name or None, not {self.trainer!r}")
        for variant in (*self.conformance, self.defaults):
            if not isinstance(variant, Mapping) or not all(isinstance(key, str) for key in variant):
                raise SpecError(
                    f"{where}: conformance variants and defaults map recipe keys to values, not {variant!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec(Spec):
    """A named data set. Its target is called without arguments and returns a source that the tasks read:
    a path, a sequence of examples, or a mapping from split names to either.

    Args:
        tasks: the tasks that can read it.
        synthetic: True where the data are generated; every number measured on them is labelled so.
        license: what a user must know before use.
        requires: what pip installs to have the data, where they are an extra ("plait-vision[mnist]").
    """

    kind: ClassVar[str] = "dataset"

    tasks: tuple[str, ...]
    synthetic: bool = False
    license: str = ""
    requires: str | None = None

    @property
    def modality(self) -> str | None:
        return self.tasks[0].split("/", 1)[0]

    def _check(self, where: str) -> None:
        _check_names(where, "tasks", self.tasks)
        if not self.tasks:
            raise SpecError(f"{where}: tasks must name at least one task that reads the data set")
        _check_requires(where, self.requires)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSpec(Spec):
    """How a model is fitted; its target is a `plait.trainer.Trainer`."""

    kind: ClassVar[str] = "trainer"

    @property
    def modality(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec(Spec):
    """Where a step runs; its target is a `plait.engine.base.Engine`."""

    kind: ClassVar[str] = "engine"

    @property
    def modality(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """A type of value that flows between predictors: "text", "image", "row". It has no code."""

    kind: ClassVar[str] = "port"

    name: str
    summary: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _PORT.fullmatch(self.name):
            raise SpecError(f"PortSpec {self.name!r}: a port type's name is lower case with hyphens, such as 'text'")
        if not isinstance(self.summary, str) or not self.summary.strip() or "\n" in self.summary:
            raise SpecError(f"PortSpec {self.name!r}: summary must be one non-empty line of text")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec(Spec):
    """A conversion between two port types that a user names when composing; it is never applied unasked.

    Its target is a function that takes and returns one value.

    Args:
        source: the port type that it takes.
        returns: the port type that it gives.
    """

    kind: ClassVar[str] = "adapter"

    source: str
    returns: str

    @property
    def modality(self) -> str | None:
        return None

    def _check(self, where: str) -> None:
        for side in ("source", "returns"):
            if not (isinstance(getattr(self, side), str) and _PORT.fullmatch(getattr(self, side))):
                raise SpecError(f"{where}: {side} must be a port type's name, not {getattr(self, side)!r}")


AnySpec = TaskSpec | ModelSpec | DatasetSpec | TrainerSpec | EngineSpec | PortSpec | AdapterSpec


class _FrozenDict(dict[str, Any]):
    """A dict that refuses changes, so that a spec stays the data it was; it prints and pickles as a dict does."""

    def _refuse(self, *args: object, **kwargs: object) -> Any:
        raise TypeError("a spec is frozen")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    # A spec is a value and belongs in sets. Equal dicts have equal keys; their values need not be hashable.
    def __hash__(self) -> int:  # type: ignore[override]  # dict says None
        return hash(frozenset(self))

    def __reduce__(self) -> tuple[Any, ...]:  # pickle and deepcopy would fill an empty one item by item, and be refused
        return type(self), (dict(self),)


def _freeze(spec: Spec, name: str) -> None:
    value = getattr(spec, name)
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        value = tuple(_FrozenDict(each) if isinstance(each, Mapping) else each for each in value)
    elif isinstance(value, Mapping):
        value = _FrozenDict(value)
    object.__setattr__(spec, name, value)


def _check_names(where: str, what: str, names: object) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise SpecError(f"{where}: {what} must be names, such as ('vision/cnn',), not {names!r}")


def _check_requires(where: str, requires: object) -> None:
    if requires is not None and not (isinstance(requires, str) and _REQUIREMENT.fullmatch(requires)):
        raise SpecError(f"{where}: requires is what pip installs, such as 'plait-speech[hmmlearn]', not {requires!r}")


__all__ = [
    "PLUGIN_API",
    "AdapterSpec",
    "AnySpec",
    "DatasetSpec",
    "EngineSpec",
    "Metric",
    "ModelSpec",
    "PortSpec",
    "Spec",
    "TaskSpec",
    "TrainerSpec",
]
