"""What may a forward know of the examples that other processes hold?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from plait.model import Batch


class Peers:
    """The processes whose parts make one micro-batch. It knows no model and no loss.

    What it does is collective: every rank asks equally often and in the same order, and its backward answers.
    """

    def __init__(self, *, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.borrowed = False  # this rank's examples are another's, and weigh nothing: they keep it in step

    def join(self, batch: Batch) -> Batch:
        """The batch as a part of what all ranks are about to train on; until the next one."""
        self.borrowed = batch.borrowed
        return replace(batch, peers=self)

    def each(self, value: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape, in rank order: [ranks, ...]. Without gradients."""
        found = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(found, value.detach().contiguous())
        return torch.stack(found)

    def total(self, value: Tensor) -> Tensor:
        """Their sum. Without gradients."""
        whole = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole

    def rows(self, own: Tensor) -> tuple[Tensor, int]:
        """The rows of all ranks, [total, ...], in rank order, and at which of them this rank's begin.

        Gradients go back to the rank that a row is from. Borrowed rows are no part of the batch: only the rank that
        borrows them sees them, after all others, so that its loss is like any other's.

        Args:
            own: this rank's, [rows, ...]; ranks may have different numbers of them.
        """
        count = 0 if self.borrowed else len(own)
        counts = [int(each) for each in self.each(torch.tensor(count, device=own.device)).tolist()]
        rows: Tensor = _Rows.apply(own, counts, self, self.borrowed)
        return rows, sum(counts) if self.borrowed else sum(counts[: self.rank])


class _Rows(Function):
    """All rows forward, the sum of every rank's gradients backward."""

    @staticmethod
    def forward(context: Any, own: Tensor, counts: list[int], peers: Peers, borrowed: bool) -> Tensor:
        context.counts, context.peers, context.borrowed = counts, peers, borrowed
        padded = own.new_zeros(max(counts), *own.shape[1:])
        if not borrowed:
            padded[: len(own)] = own
        parts = [part[:count] for part, count in zip(peers.each(padded), counts, strict=True)]
        return torch.cat([*parts, own] if borrowed else parts)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        counts, peers = context.counts, context.peers
        total = sum(counts)
        whole = peers.total(gradient[:total])
        first = sum(counts[: peers.rank])
        own = gradient[total:] if context.borrowed else whole[first : first + counts[peers.rank]]
        return own, None, None, None
