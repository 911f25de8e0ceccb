"""What does a model say of a text whose target is a set of labels, or a number?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class LabelSetPrediction:
    """How probable each label is, whatever the others are.

    Args:
        probabilities: [labels], each in [0, 1], in the order of the problem's labels.
    """

    probabilities: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class NumberPrediction:
    """A number, in the units of the training targets."""

    value: float
