"""Which items come first, with ties settled by id?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plait_recommendation.ids import UNKNOWN, Codes
from plait_recommendation.ranking.cases import Ranking
from plait_recommendation.ranking.queries import Queries

Numbers = npt.NDArray[np.float32]


class Rankings(Sequence[Ranking]):
    """Rankings of many cases as columns, so that judging makes no object for each.

    Args:
        items: codes [cases, k], best first; -1 where a case has fewer items.
        scores: [cases, k], float32; -inf where there is no item.
        notes: one tuple a case, or None where there are none.
        reasons: as in `Ranking`, one a case, or None.
    """

    def __init__(
        self,
        items: Codes,
        scores: Numbers,
        notes: Sequence[tuple[str, ...]] | None = None,
        reasons: Sequence[tuple[tuple[tuple[int, float], ...], ...]] | None = None,
    ) -> None:
        self.items, self.scores, self.notes, self.reasons = items, scores, notes, reasons

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        count = int((self.items[index] != UNKNOWN).sum())
        return Ranking(
            self.items[index, :count], self.scores[index, :count], () if self.notes is None else self.notes[index],
            None if self.reasons is None else self.reasons[index][:count],
        )  # fmt: skip


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best columns of each row, equal scores in ascending order of columns; exact, on any build of torch.

    `torch.topk` promises no order of equals and no choice among them at the boundary. Rows where either matters are
    found by comparing neighbours of the k + 1 best, and only they are sorted in full.

    Args:
        scores: [rows, columns]; -inf is never better than anything, NaN counts as -inf (and costs a pass).

    Returns:
        Values [rows, min(k, columns)] and columns, int64, of the same shape.
    """
    columns = scores.shape[1]
    k = min(k, columns)
    if not k or not len(scores):
        return scores[:, :k], torch.zeros(len(scores), k, dtype=torch.int64, device=scores.device)
    values, found = torch.topk(scores, min(k + 1, columns), dim=1)
    if values[:, 0].isnan().any():  # topk takes NaN for the largest
        return top_k(torch.where(scores.isnan(), -torch.inf, scores), k)
    equal = values[:, 1:] == values[:, :-1]
    values, found = values[:, :k].contiguous(), found[:, :k].contiguous()
    rows = equal.any(dim=1).nonzero()[:, 0]
    if len(rows):
        order = torch.sort(-scores[rows], dim=1, stable=True).indices[:, :k]
        found[rows], values[rows] = order, scores[rows].gather(1, order)
    return values, found


def rank(scores: Tensor, queries: Queries, k: int) -> Rankings:
    """The best items of each query by scores, without those that must not be given.

    Args:
        scores: [queries, items], float32; overwritten with -inf where an item must not be given.
        k: how many, where a query does not say.
    """
    count = scores.shape[1]
    if queries.barred is not None and len(queries.barred.items):
        flat = torch.from_numpy(queries.barred.rows().astype(np.int64) * count + queries.barred.items)
        scores.view(-1)[flat.to(scores.device)] = -torch.inf
    for row, allowed in queries.allowed.items():
        kept = torch.full((count,), -torch.inf, device=scores.device)
        chosen = torch.from_numpy(allowed.astype(np.int64)).to(scores.device)
        kept[chosen] = scores[row, chosen]
        scores[row] = kept
    values, found = top_k(scores, max([k, *queries.counts.values()]))
    items, numbers = found.cpu().numpy().astype(np.int32), values.float().cpu().numpy()
    gone = numbers == -np.inf
    items[gone] = UNKNOWN
    if queries.counts:
        wanted = np.full(len(items), k)
        wanted[list(queries.counts)] = list(queries.counts.values())
        beyond = np.arange(items.shape[1]) >= wanted[:, None]
        items[beyond], numbers[beyond] = UNKNOWN, -np.inf
    return Rankings(items, numbers, queries.notes)
