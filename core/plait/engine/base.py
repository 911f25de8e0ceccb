"""Where a step runs: the interface of an engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from plait.options import EngineOptions

if TYPE_CHECKING:
    import torch

    from plait.model import NeuralModel, Output

ReduceOp = Literal["sum", "mean", "min", "max"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one optimizer step.

    Args:
        applied: False where a non-finite loss or gradient on any rank made all ranks skip it.
        gradient_norm: the global 2-norm before clipping, a 0-dimensional tensor; None where nothing asked for it.
        scaler_overflow: the skip is an fp16 loss scaler's search for its scale, not a fault.
    """

    applied: bool
    gradient_norm: torch.Tensor | None = None
    scaler_overflow: bool = False


class Engine(Protocol):
    """A place to train: it places, runs, reduces, steps and serialises. It knows no task, metric or schedule,
    and no file other than its own shards."""

    name: str
    rank: int
    world_size: int
    device: torch.device
    options: EngineOptions
    sharded: bool
    """No rank holds a whole parameter between forwards: `full_state_dict` is how a model is read."""

    def __init__(self, options: EngineOptions) -> None: ...

    def setup(
        self, model: NeuralModel, optimizer: torch.optim.Optimizer | None, *, clip: float | None, average: float | None
    ) -> None:
        """Place `model`; with an optimizer, make ready to train it.

        Args:
            clip: the largest global 2-norm of the gradients; None: no clipping.
            average: decay of an exponential moving average of the weights; None: no average.
        """

    def train(self, mode: bool = True) -> None:
        """Switch dropout and batch statistics; modules that are frozen whole stay in evaluation mode."""

    def move(self, batch: Any) -> Any:
        """The batch on this engine's device."""

    def forward(self, batch: Any) -> Output:
        """Run the model on a moved batch, in this engine's precision."""

    def backward(self, loss: torch.Tensor, *, scale: float) -> None:
        """Add the gradients of `loss * scale`. One for each forward, any number for each step."""

    def step(self) -> StepResult:
        """Clip, check that loss and gradients are finite on every rank, update, clear the gradients."""

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model holds its averaged weights (as they are where there is no average)."""

    def reduce(self, value: torch.Tensor | float, op: ReduceOp = "sum") -> torch.Tensor:
        """Combine a value over all ranks."""

    def gather(self, value: Any) -> list[Any]:
        """A JSON-like value of each rank, in rank order, on every rank."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def full_state_dict(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters and buffers by name, on CPU, a tensor at a time; on rank 0 (others get nothing)."""

    def save_shards(self, directory: Path) -> None:
        """Write float32 weights, moments, averages, buffers and the loss scaler: this rank's part."""

    def load_shards(self, directory: Path) -> None:
        """Read what `save_shards` of any world size wrote."""

    def close(self) -> None:
        """Give back processes and memory."""
