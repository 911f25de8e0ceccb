"""How a model is fitted: the interface of a trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from plait.options import TrainerOptions

if TYPE_CHECKING:
    from plait.checkpoint import Checkpoints
    from plait.engine.base import Engine
    from plait.task import Split
    from plait_registry.specs import Metric


class Events(Protocol):
    """Who hears what happens in a fit: the metrics file, TensorBoard, the progress display, plugins."""

    def started(self, *, step: int, total: int | None, unit: str) -> None:
        """The fit begins, or goes on after `step` of `total` steps (None: until it converges)."""

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Cut the logs off where a checkpoint was saved ({}: at their beginning)."""

    def stepped(self, step: int) -> None:
        """A step is done; called at every one, so it must cost nothing."""

    def warned(self, message: str) -> None:
        """Something that the user should know, and that does not end the fit."""

    def logged(self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] | None = None) -> None:
        """Scalars of a step; and how fast steps were since the last ones, which no two runs repeat."""

    def evaluated(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """A split was judged."""

    def saved(self, step: int, checkpoint: Path) -> None:
        """A checkpoint is complete."""

    def position(self) -> Mapping[str, Any]:
        """Where the logs end; saved in checkpoints, so that a resumed run cuts off what came after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Everything that a trainer is given. It sees neither the task nor the device.

    Args:
        model: what is fitted; already created.
        engine: where steps run.
        train: the training split.
        evaluate: judges a split's predictions by the model as it is now, and returns metrics by name (it raises
            `StopRequested` when a stop is requested meanwhile); None where there is no `valid`.
        primary: the metric that picks the best checkpoint and stops early.
        seed: of sampling and augmentation.
        checkpoints: where state is saved and resumed from.
        events: who is told.
        stop: the reason to stop at the next step's end ("signal", "time"), or None.
    """

    model: Any
    engine: Engine
    train: Split
    evaluate: Callable[[], dict[str, float]] | None
    primary: Metric | None
    seed: int
    checkpoints: Checkpoints
    events: Events
    stop: Callable[[], str | None]


class StopRequested(Exception):  # not an error: a signal or the time limit ended a long evaluation
    """A stop was requested inside an evaluation; the trainer saves and returns."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a fit ended.

    Args:
        reason: "done", "converged", "patience", "time" or "signal"; the first three leave a finished run.
        steps: optimizer steps or iterations behind the model.
        examples: training examples seen, repeats counted.
        best_step: the step whose parameters the model now holds.
    """

    reason: str
    steps: int
    examples: int
    best_step: int | None = None


class Trainer(ABC):
    """How a model is fitted: epochs, schedule, evaluation, early stop, checkpoints. It knows no task or device."""

    Options: ClassVar[type[TrainerOptions]] = TrainerOptions

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def fit(self, fit: Fit) -> Outcome:
        """Fit the model, from the newest good checkpoint where there is one; the model then holds its best state."""
