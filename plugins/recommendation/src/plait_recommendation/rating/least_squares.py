"""Which vector of each row fits its ratings best, given the other side's vectors?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plait.engine.base import Engine

CELLS = 4_000_000  # numbers of one block's padded vectors: 32 MB, which two cores' caches and a million users bear


class RatingLists:
    """Ratings by row (users' items, or items' users), compressed; the part of this rank. It knows no ids.

    Args:
        rows, columns: codes [ratings].
        ratings: float64 [ratings].
        count: of rows; some may have no rating.
        engine: counts each row's ratings over all ranks, so that ranks form equal blocks.
    """

    def __init__(
        self, rows: npt.NDArray[Any], columns: npt.NDArray[Any], ratings: Tensor, *, count: int, engine: Engine
    ) -> None:
        order = np.argsort(rows, kind="stable")
        self.columns = torch.from_numpy(columns[order].astype(np.int64))
        self.ratings = ratings[torch.from_numpy(order)]
        sizes = np.bincount(rows, minlength=count)
        self.starts, self.sizes = torch.from_numpy(np.cumsum(sizes) - sizes), torch.from_numpy(sizes)
        self.totals: Tensor = engine.reduce(self.sizes.double())

    def blocks(self, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Rows with similarly many ratings together, padded; equal on all ranks.

        Yields:
            rows [block], columns [block, ratings], ratings [block, ratings], and 1 where there is one, 0 where not.
        """
        order = torch.argsort(self.totals, stable=True)
        lengths = self.totals[order].clamp_min(1)
        first = 0
        while first < len(order):
            # lengths ascend: the last row of a block says how far all are padded
            cost = lengths[first:] * torch.arange(1, len(order) - first + 1) * width
            last = first + max(1, int(torch.searchsorted(cost, float(CELLS), right=True)))
            rows = order[first:last]
            within = torch.arange(max(1, int(self.sizes[rows].max())))
            there = within < self.sizes[rows][:, None]
            position = torch.where(there, self.starts[rows][:, None] + within, 0)
            if not len(self.columns):  # a rank without ratings
                yield rows, position, torch.zeros(there.shape, dtype=torch.float64), there.double()
            else:
                yield rows, self.columns[position], self.ratings[position], there.double()
            first = last


def solve(lists: RatingLists, vectors: Tensor, offsets: Tensor, penalty: Tensor, engine: Engine) -> Tensor:
    """For each row the x that minimises sum (rating - offset - x . vector)^2 + sum penalty * x^2 over its ratings.

    Args:
        vectors: of the other side, float64 [columns, width].
        offsets: what each column predicts alone, [columns].
        penalty: of each number of x, [rows, width], positive.

    Returns:
        float64 [rows, width]; zeros for a row without ratings.
    """
    width = vectors.shape[1]
    found = torch.zeros((len(lists.sizes), width), dtype=torch.float64)
    for rows, columns, ratings, there in lists.blocks(width):
        weighted = vectors[columns] * there[:, :, None]  # [block, ratings, width]
        gram = engine.reduce(torch.bmm(weighted.transpose(1, 2), weighted))
        right = engine.reduce(torch.bmm(weighted.transpose(1, 2), (ratings - offsets[columns])[:, :, None]))
        factor = torch.linalg.cholesky(gram + torch.diag_embed(penalty[rows]))
        found[rows] = torch.cholesky_solve(right, factor)[:, :, 0]
    return found
