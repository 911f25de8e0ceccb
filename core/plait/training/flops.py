"""How much arithmetic does a step take?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from plait.model import Batch

_BACKWARD = 2  # forwards' worth: one for the gradients of activations, one for those of weights


class Arithmetic:
    """Counts the operations of the first forward, and reckons those of others from the elements of their batches.

    Matrix products, convolutions and attention count, a multiplication and an addition as two; a step is three forwards
    (what activation checkpointing computes again is not counted, as usual in model-FLOPs utilisation: Chowdhery et al.
    2022, "PaLM", appendix B). Exact where batches are of one shape, and else without what attention adds for longer
    ones. It knows no clock.
    """

    def __init__(self) -> None:
        self._each: float | None = None  # operations for each element of a batch

    def counting(self, batch: Batch) -> AbstractContextManager[None]:
        """Around every forward; the first that has elements is counted."""
        return _NOTHING if self._each is not None else self._count(_elements(batch))

    def of(self, batch: Batch) -> float:
        """Floating-point operations of the batch's forward and backward; 0 before any was counted."""
        return (self._each or 0.0) * (1 + _BACKWARD) * _elements(batch)

    @contextmanager
    def _count(self, elements: int) -> Iterator[None]:
        with _Counter() as counter:
            yield
        if elements:
            self._each = counter.operations / elements


_NOTHING = nullcontext()


def _elements(batch: Batch) -> int:
    return sum(tensor.numel() for tensor in batch.tensors.values())


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Torch's own formulas, without its hooks on modules and gradients."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=made)
        return made
