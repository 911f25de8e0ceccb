"""How often is a clicked example ranked above one that was not, under example weights?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plait.bootstrap import Floats


def weighted_auc(scores: Floats, targets: Floats, weights: Floats) -> Floats:
    """The area under the ROC curve: the share of pairs (clicked, not clicked) that the scores order, a tie counting
    one half. Equal to scikit-learn's `roc_auc_score` with sample weights.

    A score that is NaN is below all others where the example was clicked, and above all where it was not.

    Args:
        scores: [examples].
        targets: 0 or 1, [examples].
        weights: [replicates, examples], not negative.

    Returns:
        [replicates]; NaN where a replicate has no such pair.
    """
    order, starts, ends = _tied(scores, targets, None)
    ordered = weights[:, order]
    wanted = targets[order] > 0
    lost = _cumulative(np.where(wanted, 0.0, ordered))  # not clicked, before each place; [replicates, examples + 1]
    won = _cumulative(np.where(wanted, ordered, 0.0))
    # a block of equal scores wins against all that is below it, and half against its own
    below, own = lost[:, starts], lost[:, ends] - lost[:, starts]
    pairs = ((won[:, ends] - won[:, starts]) * (below + own / 2)).sum(axis=1)
    total = won[:, -1] * lost[:, -1]
    area: Floats = np.divide(pairs, total, out=np.full(len(weights), np.nan), where=total > 0)
    return area


def grouped_auc(scores: Floats, targets: Floats, groups: npt.NDArray[np.int64]) -> float:
    """The mean of each group's AUC, weighted by its examples, over the groups that have clicks and others (Zhu et al.
    2017, "Optimized cost per click", equation 10: groups are users); NaN where there is none."""
    if not len(scores):
        return float("nan")
    order, starts, ends = _tied(scores, targets, groups)
    wanted = (targets[order] > 0).astype(np.float64)
    lost, won = _cumulative(1 - wanted[None])[0], _cumulative(wanted[None])[0]
    ordered = groups[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    last = np.r_[first[1:], len(ordered)]
    group = np.searchsorted(first, starts, side="right") - 1  # of each block of ties
    below = lost[starts] - lost[first][group]
    pairs = np.bincount(group, (won[ends] - won[starts]) * (below + (lost[ends] - lost[starts]) / 2), len(first))
    total = (won[last] - won[first]) * (lost[last] - lost[first])
    both = total > 0
    if not both.any():
        return float("nan")
    return float(np.average(pairs[both] / total[both], weights=(last - first)[both]))


def _tied(
    scores: Floats, targets: Floats, groups: npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The ascending order (within groups), and where each block of equal scores begins and ends."""
    worst = np.where(targets > 0, -np.inf, np.inf)
    scores = np.where(np.isnan(scores), worst, scores)
    order = np.argsort(scores, kind="stable") if groups is None else np.lexsort((scores, groups))
    ordered = scores[order]
    new = ordered[1:] != ordered[:-1]
    if groups is not None:
        new |= groups[order][1:] != groups[order][:-1]
    starts = np.flatnonzero(np.r_[True, new])
    return order, starts, np.r_[starts[1:], len(ordered)]


def _cumulative(values: Floats) -> Floats:
    """Sums of what stands before each place, [replicates, examples + 1]."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums
