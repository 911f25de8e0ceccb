"""Plait: one life cycle for every model. Importing this imports neither torch nor any plugin.

import plait

run = plait.train("vision/image-classification", "vision/cnn", "digits")
predict = plait.load(run.path)
predict("seven.png").prediction
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from plait_registry import hookimpl

if TYPE_CHECKING:
    from plait.api import Evaluation, compare, evaluate, registry, train
    from plait.composition import Composition, adapter, compose
    from plait.errors import PlaitError
    from plait.predictor import Predictor, load
    from plait.run import Run
    from plait.task import Prediction

_HOMES = {
    "Composition": "composition",
    "Evaluation": "api",
    "PlaitError": "errors",
    "Prediction": "task",
    "Predictor": "predictor",
    "Run": "run",
    "adapter": "composition",
    "compare": "api",
    "compose": "composition",
    "evaluate": "api",
    "load": "predictor",
    "registry": "api",
    "train": "api",
}

__all__ = [
    "Composition",
    "Evaluation",
    "PlaitError",
    "Prediction",
    "Predictor",
    "Run",
    "adapter",
    "compare",
    "compose",
    "evaluate",
    "hookimpl",
    "load",
    "registry",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    value = getattr(import_module(f"plait.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
