"""Which step is the best so far, and is it time to stop looking?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plait_registry.specs import Metric


@dataclass(slots=True)
class Selection:
    """The best evaluation so far by the primary metric.

    Args:
        step: where it was; None before any.
        value: the primary metric there.
        loss: the loss there, which decides between equal values; None where the model has none.
        worse: evaluations since then.
        judged: the step of the newest evaluation, so that a resumed run repeats none and misses none.
    """

    step: int | None = None
    value: float | None = None
    loss: float | None = None
    worse: int = 0
    judged: int | None = None

    def add(self, step: int, metrics: Mapping[str, float], primary: Metric | None) -> None:
        """Take note of an evaluation; without a primary metric the newest counts as the best."""
        self.judged = step
        value = math.nan if primary is None else metrics.get(primary.name, math.nan)
        loss = metrics.get("loss")
        if primary is None or (not math.isnan(value) and self._is_better(value, loss, primary)):
            self.step, self.value, self.loss, self.worse = step, None if math.isnan(value) else value, loss, 0
        else:
            self.worse += 1

    def _is_better(self, value: float, loss: float | None, primary: Metric) -> bool:
        if self.value is None:
            return True
        if value == self.value:
            return loss is not None and self.loss is not None and loss < self.loss
        return value > self.value if primary.higher_is_better else value < self.value

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` evaluations in a row were no better."""
        return patience is not None and self.worse >= patience

    def as_json(self) -> dict[str, Any]:
        """The selection as JSON values; `Selection(**value)` reads it."""
        return asdict(self)
