"""How does an average of the weights follow them, where a rank holds only its part?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from plait.engine.partitions import Layout


class Averages:
    """An exponential moving average of what this rank updates. It knows no schedule and no file.

    Args:
        layout: what this rank updates.
        decay: of the average, for each step; None: there is none.
        copy: makes a copy of a tensor, where averages are to be.
    """

    def __init__(self, layout: Layout, decay: float | None, *, copy: Callable[[Tensor], Tensor] = torch.clone) -> None:
        self._layout, self._decay = layout, decay
        kept = layout.trained if decay is not None else ()
        self.tensors = [copy(holding.tensor.detach()) for holding in kept]

    @classmethod
    def none(cls) -> Averages:
        """Of nothing."""
        return cls(Layout((), (), lambda: None), None)

    def update(self) -> None:
        """Follow a step."""
        if self.tensors and self._decay is not None:
            with torch.no_grad():
                current = [holding.tensor.detach() for holding in self._layout.trained]
                torch._foreach_lerp_(self.tensors, current, 1.0 - self._decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the model holds the averages, where there are any."""
        if not self.tensors:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for holding, average in zip(self._layout.trained, self.tensors, strict=True):
                kept = holding.tensor.detach().clone()
                holding.tensor.copy_(average)
                average.copy_(kept)
        self._layout.publish()
