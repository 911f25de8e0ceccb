"""Which factors does each row have, given those of the other side? The half-step of alternating least squares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from plait_recommendation.ids import Codes
from plait_recommendation.interactions import Lists

_CELLS = 1 << 19  # gathered values at once: 2 MB stay in the cache between products; 1 << 20 took 1.3 times as long


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of about one length, so that little is padded.

    Args:
        rows: their numbers, int64 [rows].
        others: codes of each row's others, padded with `count`, int32 [rows, longest].
        sizes: how many each row has, float32 [rows].
    """

    rows: Tensor
    others: Tensor
    sizes: Tensor


def blocks(lists: Lists, *, count: int, width: int) -> Iterator[Block]:
    """The rows of `lists` that have any other, longest first.

    Args:
        count: of the others; stands for none.
        width: factors, which bound how many rows are one block.
    """
    sizes = lists.sizes
    order = np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]
    first = 0
    while first < len(order):
        longest = int(sizes[order[first]])
        rows = order[first : first + max(1, _CELLS // (longest * width))]
        first += len(rows)
        codes = np.full((len(rows), longest), count, np.int32)
        codes[np.arange(longest) < sizes[rows][:, None]] = lists.take(rows).items
        yield Block(torch.from_numpy(rows), torch.from_numpy(codes), torch.from_numpy(sizes[rows]).float())


@dataclass(frozen=True, slots=True)
class Ridge:
    """Least squares for one row at a time (Rendle 2021, equations 5 and 14): minimise over w

    sum over events (w.h_i - 1)^2 + alpha sum over all i (w.h_i)^2 + lambda (n + alpha N)^nu |w|^2,

    with n events of the row and N others. It does not know which side is users.

    Args:
        others: h, float32 [N, factors].
        padded: the same with a row of zeros at the end.
        base: alpha h'h, [factors, factors].
        unobserved, regularization, exponent: alpha, lambda, nu.
    """

    others: Tensor
    padded: Tensor
    base: Tensor
    unobserved: float
    regularization: float
    exponent: float

    @classmethod
    def of(cls, others: Tensor, unobserved: float, regularization: float, exponent: float) -> Self:
        """The half-step towards `others`."""
        padded = torch.cat([others, others.new_zeros(1, others.shape[1])])
        return cls(others, padded, unobserved * (others.T @ others), unobserved, regularization, exponent)

    def solve(self, lists: Lists) -> Tensor:
        """The best factors of each row, by Cholesky's decomposition, [rows, factors]; zero for an empty row.

        Args:
            lists: each row's others, without repeats.
        """
        count, width = self.others.shape
        result = self.others.new_zeros(len(lists), width)
        for block in blocks(lists, count=count, width=width):
            known = self._known(block)
            matrix = torch.baddbmm(self.base.expand(len(known), -1, -1), known.transpose(1, 2), known)
            matrix.diagonal(dim1=1, dim2=2).add_(self.penalty(block.sizes)[:, None])
            factor = torch.linalg.cholesky(matrix)
            result[block.rows] = torch.cholesky_solve(known.sum(dim=1)[:, :, None], factor)[:, :, 0]
        return result

    def improve(self, parts: list[Block], start: Tensor, *, steps: int) -> tuple[Tensor, float]:
        """Better factors of each row, by conjugate gradients from where they are (Takacs 2011). None becomes worse.

        Args:
            parts: the rows, as `blocks` gives them.
            start: [rows, factors].
            steps: of each row; `factors` steps are exact.

        Returns:
            Factors, and the sum over rows of what is minimised, the unobserved pairs of every row counted.
        """
        result, total = start.clone(), 0.0
        for block in parts:
            known = self._known(block)
            across = known.transpose(1, 2)
            penalty = self.penalty(block.sizes)[:, None]
            x = result[block.rows]
            # vectors as [rows, 1, n] from the left: from the right, [rows, n, 1], torch takes 8 times as long
            fit = torch.bmm(x[:, None, :], across)
            right = known.sum(dim=1)
            residual = right - torch.bmm(fit, known)[:, 0] - x @ self.base - penalty * x
            direction, length = residual, residual.square().sum(dim=1, keepdim=True)
            for _ in range(steps):
                turned = torch.bmm(torch.bmm(direction[:, None, :], across), known)[:, 0]
                turned = turned.addmm_(direction, self.base).addcmul_(penalty, direction)
                step = length / (direction * turned).sum(dim=1, keepdim=True).clamp_min(1e-30)
                x = x + step * direction
                residual = residual - step * turned
                shorter = residual.square().sum(dim=1, keepdim=True)
                direction, length = residual + shorter / length.clamp_min(1e-30) * direction, shorter
            result[block.rows] = x
            total += float(block.sizes.sum() - (x * (right + residual)).sum(dtype=torch.float64))
        return result, total

    def penalty(self, sizes: Tensor) -> Tensor:
        """The weight of |w|^2 for rows of these many events, [rows]."""
        return self.regularization * (sizes + self.unobserved * len(self.others)) ** self.exponent

    def weigh(self, history: Codes, items: Codes) -> Tensor:
        """How much each event of a history adds to w.h_i, [items, history] (Hu 2008, section 5)."""
        seen, wanted = (self.others[torch.from_numpy(each.astype(np.int64))] for each in (history, items))
        matrix = self.base + seen.T @ seen
        matrix.diagonal().add_(self.penalty(torch.tensor(float(len(history)))))
        found: Tensor = wanted @ torch.linalg.solve(matrix, seen.T)
        return found

    def _known(self, block: Block) -> Tensor:
        """The others' factors, [rows, longest, factors], zero where there is none."""
        flat = self.padded.index_select(0, block.others.reshape(-1))
        return flat.view(*block.others.shape, self.padded.shape[1])
