"""Where a step runs: the interface of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from plait.options import EngineOptions

if TYPE_CHECKING:
    import torch

    from plait.engine.shards import Shards
    from plait.model import NeuralModel, Output

Made = TypeVar("Made")
ReduceOp = Literal["sum", "mean", "min", "max"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one optimizer step.

    Args:
        applied: False where a non-finite loss or gradient on any rank made all ranks skip it.
        losses: those of the step's backwards on this rank, in order. They come with the answer whether all was finite:
            asking the device for each would wait until it has made the update, too.
        gradient_norm: the global 2-norm before clipping, a 0-dimensional tensor; None where nothing asked for it.
        scaler_overflow: the skip is an fp16 loss scaler's search for its scale, not a fault.
    """

    applied: bool
    losses: Sequence[float]
    gradient_norm: torch.Tensor | None = None
    scaler_overflow: bool = False


class Channel(Protocol):
    """Messages between ranks. It knows JSON values."""

    rank: int
    world_size: int

    def gather(self, value: Any) -> list[Any]:
        """A JSON-like value of each rank, in rank order, on every rank."""


class Engine(Protocol):
    """A place to train: it places, runs, reduces, steps and serialises. It knows no task, metric or schedule,
    and no file other than its own shards."""

    name: str
    rank: int
    world_size: int
    device: torch.device
    options: EngineOptions
    peak: float | None
    """Operations a second that a process's device is made for, in this engine's precision; None: not known."""
    sharded: bool
    """No rank holds a whole parameter between forwards: `full_state_dict` is how a model is read."""

    def __init__(self, options: EngineOptions) -> None: ...

    def create(self, make: Callable[[], Made]) -> Made:
        """What `make` makes: a network to train here. Where a process is to hold only a part of its parameters, they
        may have shapes and no numbers until `setup`."""

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

    def later(self, value: float) -> Callable[[], float]:
        """The sum of a number over all ranks, for when it is asked for. Collective: it travels with the next number
        that ranks reduce, or by itself where it is asked for before that."""

    def gather(self, value: Any) -> list[Any]:
        """A JSON-like value of each rank, in rank order, on every rank."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def full_state_dict(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters and buffers by name, on CPU, a tensor at a time; on rank 0 (others get nothing)."""

    def channel(self) -> Channel:
        """Messages that do not mix with this engine's own, for one other thread. Collective."""

    def copy_shards(self) -> Shards:
        """A copy of this rank's part of float32 weights, moments, averages, buffers and the loss scaler."""

    def load_shards(self, directory: Path) -> None:
        """Read what `copy_shards` of any world size wrote."""

    def close(self) -> None:
        """Give back processes and memory."""
