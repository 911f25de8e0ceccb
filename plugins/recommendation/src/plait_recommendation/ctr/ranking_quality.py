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
    scores = _without_nan(scores, targets)
    clicked, others = np.flatnonzero(targets > 0), np.flatnonzero(targets <= 0)
    others = others[np.argsort(scores[others], kind="stable")]
    ladder = scores[others]
    below, upto = (np.searchsorted(ladder, scores[clicked], side=side) for side in ("left", "right"))
    area = np.full(len(weights), np.nan)
    lost = np.zeros(len(others) + 1)  # the weight of the lowest so many that were not clicked
    for row, weight in enumerate(weights):  # one at a time stays in the cache: 1,000 of 40,000 examples in 0.3 s
        np.cumsum(weight[others], out=lost[1:])
        won = weight[clicked]
        if total := won.sum() * lost[-1]:
            area[row] = won @ (lost[below] + lost[upto]) / 2 / total
    return area


def grouped_auc(scores: Floats, targets: Floats, groups: npt.NDArray[np.int64]) -> float:
    """The mean of each group's AUC, weighted by its examples, over the groups that have clicks and others (Zhu et al.
    2017, "Optimized cost per click", equation 10: groups are users); NaN where there is none."""
    if not len(scores):
        return float("nan")
    order, starts, ends = _tied(scores, targets, groups)
    wanted = (targets[order] > 0).astype(np.float64)
    lost, won = (np.concatenate([[0.0], np.cumsum(each)]) for each in (1 - wanted, wanted))
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
    scores: Floats, targets: Floats, groups: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The ascending order within groups, and where each block of equal scores begins and ends."""
    scores = _without_nan(scores, targets)
    order = np.lexsort((scores, groups))
    new = (scores[order][1:] != scores[order][:-1]) | (groups[order][1:] != groups[order][:-1])
    starts = np.flatnonzero(np.r_[True, new])
    return order, starts, np.r_[starts[1:], len(scores)]


def _without_nan(scores: Floats, targets: Floats) -> Floats:
    worst = np.where(targets > 0, -np.inf, np.inf)
    return np.where(np.isnan(scores), worst, scores)
