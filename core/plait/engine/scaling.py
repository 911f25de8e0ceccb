"""By what are fp16 losses multiplied?"""

from __future__ import annotations

from typing import Any


class LossScale:
    """The factor that keeps small fp16 gradients from vanishing: halved when they overflow, doubled after 2000 good
    steps (as torch's GradScaler does it). It knows no tensor; whether a step overflowed is agreed by the norm."""

    def __init__(self) -> None:
        self.scale = 2.0**16
        self._good = 0

    def update(self, applied: bool) -> None:
        """Count a step."""
        self._good = self._good + 1 if applied else 0
        if not applied:
            self.scale /= 2
        elif self._good == 2000:
            self.scale, self._good = self.scale * 2, 0

    def as_json(self) -> dict[str, Any]:
        """Its state."""
        return {"scale": self.scale, "_growth_tracker": self._good}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, also one of torch's GradScaler."""
        self.scale, self._good = float(state["scale"]), int(state["_growth_tracker"])
