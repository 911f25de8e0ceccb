"""When is each unit of a text said, by the probabilities of a network that was trained by CTC?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BLANK = 0


@dataclass(frozen=True, slots=True, eq=False)
class CtcPath:
    """The most likely path of a text.

    Args:
        places: for each row, the place in the targets of the unit that is written there, or -1 for blank. int64 [rows].
        log_probability: of the path, nats; -inf where the text has no path.
    """

    places: npt.NDArray[np.int64]
    log_probability: float

    def spans(self, count: int) -> list[tuple[int, int]]:
        """For each of the `count` targets, the first of its rows and the row after its last."""
        rows = [np.flatnonzero(self.places == place) for place in range(count)]
        return [(int(own[0]), int(own[-1]) + 1) for own in rows]


def ctc_align(rows: npt.NDArray[np.floating[Any]], targets: Sequence[int], *, blank: int = BLANK) -> CtcPath:
    """The most likely of all paths that CTC reads as the targets (Graves et al. 2006, section 3.1, with max in place of
    the sum: what torchaudio calls forced_align). Exact Viterbi over blanks and targets in turn; a blank may be left out
    between unlike targets, and must stand between like ones.

    Args:
        rows: log probabilities, nats, [rows, units].
        targets: numbers of units, none of them blank.

    Returns:
        The path. Where rows are too few for the targets, its log probability is -inf and its places are all -1.

    Raises:
        ValueError: a target is blank, or has no column.
    """
    wrong = [each for each in targets if each == blank or not 0 <= each < rows.shape[1]]
    if wrong:
        raise ValueError(f"target {wrong[0]} is blank ({blank}) or none of {rows.shape[1]} units")
    count, width = len(rows), 2 * len(targets) + 1
    symbols = np.full(width, blank, np.int64)
    symbols[1::2] = targets
    skip = np.zeros(width, bool)  # whether a state may be entered from two states before
    skip[3::2] = symbols[3::2] != symbols[1:-2:2]
    scores = np.asarray(rows, np.float64)[:, symbols]
    best = np.full(width, -np.inf)
    best[:2] = scores[0, :2] if count else -np.inf
    back = np.zeros((count, width), np.int8)
    for row in range(1, count):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(skip, np.concatenate([[-np.inf, -np.inf], best[:-2]])[:width], -np.inf)
        choices = np.stack([best, one, two])
        back[row] = choices.argmax(axis=0)
        best = choices.max(axis=0) + scores[row]
    state = width - 1 if width == 1 or best[-1] >= best[-2] else width - 2
    total = float(best[state]) if count else (0.0 if width == 1 else -np.inf)
    places = np.full(count, -1, np.int64)
    if not np.isfinite(total):
        return CtcPath(places, -np.inf)
    for row in range(count - 1, -1, -1):
        if state % 2:
            places[row] = state // 2
        state -= int(back[row, state])
    return CtcPath(places, total)
