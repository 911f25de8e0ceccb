"""How does a model that scores every item from a history answer cases?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from plait.task import Problem
from plait_recommendation.ids import UNKNOWN, Codes
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case, RankingSplit
from plait_recommendation.ranking.queries import Memory, Queries
from plait_recommendation.ranking.topk import Rankings, Reasons, rank

_BLOCK = (
    128  # users at once: their scores of 1,682 to 3,706 items stay in the cache (37-45 k users/s against 25 k at 1,024)
)


class Scorer(Protocol):
    """What scores all items. It needs no user: a history is enough, so that new users are served like known ones."""

    memory: Memory

    def score(self, histories: Lists) -> Tensor:
        """Scores of all items, higher is better, a new float32 tensor [histories, items]."""

    def similar(self, items: Codes) -> Tensor:
        """How like each item all items are, a new float32 tensor [len(items), items]."""

    def weigh(self, history: Codes, items: Codes) -> Tensor | None:
        """How much each event of a history adds to the scores of some items, [len(items), len(history)]; None where
        the model cannot say."""


def recommend(scorer: Scorer, cases: Sequence[Case], problem: Problem) -> Rankings:
    """Rankings of cases: histories are scored, item-to-item questions answered by likeness; who has no history gets
    what most users chose.

    Args:
        problem: its largest cutoff is how many items a ranking has where a case does not say.
    """
    depth, count = max(problem["cutoffs"]), len(problem["items"])
    parts = []
    with torch.inference_mode():
        for first in range(0, len(cases), _BLOCK):
            rows = range(first, min(first + _BLOCK, len(cases)))
            chunk = cases.take(rows) if isinstance(cases, RankingSplit) else cases[rows.start : rows.stop]
            parts.append(_answered(scorer, Queries.of(chunk, scorer.memory), min(depth, count)))
    return _joined(parts)


def _answered(scorer: Scorer, queries: Queries, depth: int) -> Rankings:
    scores = scorer.score(queries.histories)
    blank = (queries.histories.sizes == 0) & (queries.likes == UNKNOWN)
    if blank.any():
        scores[torch.from_numpy(blank)] = torch.from_numpy(scorer.memory.counts).to(scores)
    alike = np.flatnonzero(queries.likes != UNKNOWN)
    if len(alike):
        scores[torch.from_numpy(alike)] = scorer.similar(queries.likes[alike]).to(scores)
    found = rank(scores, queries, depth, explained=True)

    def weigh(history: Codes, items: Codes) -> tuple[Codes, Tensor] | None:
        events = np.unique(history)
        weights = scorer.weigh(events, items)
        return None if weights is None else (events, weights)

    add_reasons(found, queries, weigh)
    return found


def add_reasons(
    found: Rankings, queries: Queries, weigh: Callable[[Codes, Codes], tuple[Codes, Tensor] | None]
) -> None:
    """Give the rankings the reasons that their queries ask for: for each item the events of the history that speak for
    it most; or the note that the model cannot say.

    Args:
        weigh: from a history (codes in the order of time) and some items to the history's items, each once, and how
            much each speaks for those, [items, history's]; None where the model cannot say.
    """
    if not queries.explain:
        return
    found.reasons = [
        _reasons(weigh, queries, row, found.items[row]) if row in queries.explain else None
        for row in range(len(queries))
    ]
    found.notes = queries.unexplained([row for row in queries.explain if found.reasons[row] is None])


def _reasons(
    weigh: Callable[[Codes, Codes], tuple[Codes, Tensor] | None], queries: Queries, row: int, items: Codes
) -> Reasons | None:
    history, most = queries.histories[row], queries.explain[row]
    items = items[items != UNKNOWN]
    if not len(history) or not len(items) or queries.likes[row] != UNKNOWN:
        return ((),) * len(items)
    weighed = weigh(history, items)
    if weighed is None:
        return None
    events, weights = weighed
    found = []
    for each in weights.double().cpu().numpy():
        best = np.argsort(-each, kind="stable")[:most]
        found.append(tuple((int(events[at]), float(each[at])) for at in best if each[at] > 0))
    return tuple(found)


def _joined(parts: Sequence[Rankings]) -> Rankings:
    if len(parts) == 1:
        return parts[0]
    width = max((part.items.shape[1] for part in parts), default=0)
    total = sum(len(part) for part in parts)
    items, scores = np.full((total, width), UNKNOWN, np.int32), np.full((total, width), -np.inf, np.float32)
    first = 0
    for part in parts:
        items[first : first + len(part), : part.items.shape[1]] = part.items
        scores[first : first + len(part), : part.items.shape[1]] = part.scores
        first += len(part)
    notes = [note for part in parts for note in part.notes or [()] * len(part)] if any(p.notes for p in parts) else None
    reasons = None
    if any(part.reasons for part in parts):
        reasons = [each for part in parts for each in part.reasons or [None] * len(part)]
    return Rankings(items, scores, notes, reasons)
