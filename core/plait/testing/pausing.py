"""How is any trainer stopped after a given step, as a signal would stop it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plait.trainer import Fit, Outcome, Trainer


def pausing(trainer: type[Trainer], *, after: int) -> type[Trainer]:
    """A trainer like `trainer` that is asked to stop at the end of step `after`."""

    class Pausing(Trainer):
        Options = trainer.Options

        def fit(self, fit: Fit) -> Outcome:
            counted: Any = _Counted(fit.events)
            stop = replace(fit, events=counted, stop=lambda: "signal" if counted.step >= after else fit.stop())
            return trainer(self.options).fit(stop)

    return Pausing


class _Counted:
    """Events that remember the newest step and pass everything on."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.step = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)

    def stepped(self, step: int) -> None:
        self.step = step
        self._events.stepped(step)
