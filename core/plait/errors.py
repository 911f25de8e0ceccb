"""Which errors does the core raise, and which exit code does each carry?

One question decides: would the same command, given again as things stand, fail again? Then somebody must mend something
first (a recipe, data, a missing package, a full disk), and the exit code is 2. Where it may well pass (a process died,
a host was cut off), it is 1, as it is for bugs: a script may try again.
"""

from __future__ import annotations

from plait_registry.errors import (
    AmbiguousNameError,
    PlaitError,
    PluginError,
    SpecError,
    TargetError,
    UnknownNameError,
    did_you_mean,
    near,
)


class RecipeError(PlaitError):
    """A recipe has unknown keys, wrong types or contradictions; `details` has one entry for each."""


class DataError(PlaitError):
    """Data cannot be read or do not fit the task: names file, line, field, and what was expected."""


class InputError(PlaitError):
    """One input of a prediction is wrong."""


class RunError(PlaitError):
    """A run directory cannot be used: it exists, is locked, is damaged, or needs another plugin."""


class IntegrityError(RunError):
    """A file of a checkpoint or model directory is missing, changed, or has no business there."""


class StorageError(RunError):
    """The disk is full, read-only or denies access; the last checkpoint is whole.

    Its exit code is 2: no second try makes room.
    """


class EngineError(PlaitError):
    """The device, precision or number of processes asked for is not to be had here."""


class LostRankError(EngineError):
    """One of several processes stopped answering, or keeps the others waiting; a restart may mend it."""

    exit_code = 1


class FailedRankError(EngineError):
    """One of several processes was killed, or raised what nobody foresaw; its log and traceback say more."""

    exit_code = 1


class CompositionError(PlaitError):
    """Predictors whose ports do not fit."""


class NonFiniteError(PlaitError):
    """The loss or a gradient is not finite; the last good checkpoint is kept."""


class Interrupted(PlaitError):
    """A signal ended the run after a checkpoint; exit code 130 (Ctrl-C) or 143 (SIGTERM)."""

    def __init__(self, message: str, *, hint: str, signal: int) -> None:
        super().__init__(message, hint=hint)
        self.signal = signal

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # 128 + signal, as shells count
        return 128 + self.signal


__all__ = [
    "AmbiguousNameError",
    "CompositionError",
    "DataError",
    "EngineError",
    "FailedRankError",
    "InputError",
    "IntegrityError",
    "Interrupted",
    "LostRankError",
    "NonFiniteError",
    "PlaitError",
    "PluginError",
    "RecipeError",
    "RunError",
    "SpecError",
    "StorageError",
    "TargetError",
    "UnknownNameError",
    "did_you_mean",
    "near",
]
