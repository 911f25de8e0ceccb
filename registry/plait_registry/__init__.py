"""Which tasks, models, data sets, trainers and engines are installed? Answered without importing any of them.

This package needs only the standard library and pluggy. A plugin imports its specs and `hookimpl` from here.
"""

from plait_registry.errors import (
    AmbiguousNameError,
    PlaitError,
    PluginError,
    SpecError,
    TargetError,
    UnknownNameError,
)
from plait_registry.hookspecs import hookimpl
from plait_registry.registry import Entry, Plugin, Registry
from plait_registry.specs import (
    PLUGIN_API,
    AdapterSpec,
    DatasetSpec,
    EngineSpec,
    Metric,
    ModelSpec,
    PortSpec,
    Spec,
    TaskSpec,
    TrainerSpec,
)

__all__ = [
    "PLUGIN_API",
    "AdapterSpec",
    "AmbiguousNameError",
    "DatasetSpec",
    "EngineSpec",
    "Entry",
    "Metric",
    "ModelSpec",
    "PlaitError",
    "Plugin",
    "PluginError",
    "PortSpec",
    "Registry",
    "Spec",
    "SpecError",
    "TargetError",
    "TaskSpec",
    "TrainerSpec",
    "UnknownNameError",
    "hookimpl",
]
