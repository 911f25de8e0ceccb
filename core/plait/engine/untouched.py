"""Which parameters did no gradient reach in a step, and how do they stay as they were?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plait.engine.partitions import Layout
from plait.engine.reach import Reach


def unreached(
    trained: Sequence[nn.Parameter], *, largest: Callable[[Tensor], Callable[[], Tensor]]
) -> Callable[[], list[nn.Parameter]]:
    """The parameters that now have a gradient on no rank, for when they are asked for. Collective.

    Args:
        largest: begins to find the largest of the ranks' tensors, element by element.
    """
    anywhere = largest(torch.tensor([each.grad is not None for each in trained], dtype=torch.uint8))
    return lambda: [each for each, reached in zip(trained, anywhere().tolist(), strict=True) if not reached]


class Untouched:
    """Leaves alone what no gradient reached on any rank, as torch's optimizers do with gradients that are None.

    Inside the flat tensors of ZeRO 1 to 3 such parameters have zero gradients, by which weight decay shrinks them and
    their moments fade. Their values and moments are put back right after the update, before DeepSpeed hands the new
    weights round. It does not know the step counter of a parameter: a flat tensor has one, so that Adam's bias
    correction of a parameter that is reached now and then counts the steps of all.

    Args:
        layout: what this rank updates.
        optimizer: torch's, which updates it.
        reach: knows what gradients reached.
    """

    def __init__(self, layout: Layout, optimizer: torch.optim.Optimizer, reach: Reach) -> None:
        self._layout, self._optimizer, self._reach = layout, optimizer, reach
        self._kept: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._handle = optimizer.register_step_post_hook(self._put_back)

    def watch(self, loss: Tensor) -> None:
        """Before the backward of `loss`."""
        self._reach.watch(loss)

    def keep(self) -> None:
        """Before an update: copy what it must not change. Collective."""
        missing = self._reach.missing()
        self._kept = {}
        for holding in self._layout.trained if missing else ():
            moments = self._optimizer.state.get(holding.tensor, {}).values()
            flats = [each for each in moments if isinstance(each, Tensor) and each.shape == holding.tensor.shape]
            for piece in holding.pieces:
                if piece.name in missing:
                    for flat in (holding.tensor, *flats):
                        part = flat.detach().view(-1)[piece.at : piece.at + piece.count]
                        self._kept.setdefault(id(holding.tensor), []).append((part, part.clone()))

    def close(self) -> None:
        """Take the hook off the optimizer, which outlives the engine."""
        self._reach.close()
        self._handle.remove()
        self._kept = {}

    def _put_back(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """After the update of a group: DeepSpeed shows the optimizer one at a time."""
        for group in optimizer.param_groups:
            for updated in group["params"]:
                for part, values in self._kept.pop(id(updated), ()):
                    part.copy_(values)
