"""What are the parameters of hidden Markov models, one for each class, and which transitions may they have?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Topology = Literal["left-right", "bakis", "ergodic"]
End = Literal["any", "last"]

_TENSORS = ("log_start", "log_arcs", "log_end", "log_weight", "mean", "variance")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HmmBank:
    """Hidden Markov models of one shape with diagonal Gaussian mixtures as emissions (Rabiner 1989, section IV.A).

    A state's emission may be shared by several states: that is how a minimum duration is built, as a chain of states
    that emit the same. It knows no data and no class names.

    Args:
        log_start: log pi, nats, [models, states]; minus infinity in all states where a class was never heard.
        log_arcs: log a. Banded: [models, offsets, states], where [m, k, i] is the transition from state i to state
            i + offsets[k] (minus infinity where there is no such state). Dense: [models, states, states], from i to j.
        log_end: what ending in a state adds, nats, [models, states]: 0 where an utterance may end, else -inf.
        log_weight: log c, nats, [models, emissions, mixtures].
        mean, variance: [models, emissions, mixtures, dims].
        offsets: the band, 0 first: (0, 1) is left-right; None: dense.
        tie: the emission of each state.
    """

    log_start: Tensor
    log_arcs: Tensor
    log_end: Tensor
    log_weight: Tensor
    mean: Tensor
    variance: Tensor
    offsets: tuple[int, ...] | None
    tie: tuple[int, ...]

    @property
    def models(self) -> int:
        return self.log_start.shape[0]

    @property
    def states(self) -> int:
        return self.log_start.shape[1]

    @property
    def emissions(self) -> int:
        return self.mean.shape[1]

    @property
    def mixtures(self) -> int:
        return self.mean.shape[2]

    @property
    def dims(self) -> int:
        return self.mean.shape[3]

    @property
    def tied(self) -> bool:
        """Whether some states share an emission."""
        return self.emissions != self.states

    @property
    def heard(self) -> Tensor:
        """Which models were ever trained, bool [models]; under the others everything is impossible."""
        return self.log_start.isfinite().any(1)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in _TENSORS}

    def shape(self) -> dict[str, Any]:
        """What is not a tensor, as JSON values."""
        return {"offsets": None if self.offsets is None else list(self.offsets), "tie": list(self.tie)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], shape: Mapping[str, Any]) -> HmmBank:
        """The bank whose `tensors()` and `shape()` these are."""
        offsets = None if shape["offsets"] is None else tuple(shape["offsets"])
        return cls(**{name: tensors[name] for name in _TENSORS}, offsets=offsets, tie=tuple(shape["tie"]))

    def to(self, dtype: torch.dtype) -> HmmBank:
        """The same parameters as float32 or float64."""
        return HmmBank.of({name: value.to(dtype) for name, value in self.tensors().items()}, self.shape())

    def transitions(self) -> Tensor:
        """The transition matrices a_ij, [models, states, states]."""
        if self.offsets is None:
            return self.log_arcs.exp()
        matrix = self.log_arcs.new_zeros(self.models, self.states, self.states)
        for band, offset in enumerate(self.offsets):
            own = torch.arange(max(self.states - offset, 0))
            matrix[:, own, own + offset] = self.log_arcs[:, band, : len(own)].exp()
        return matrix

    def shortest(self) -> int:
        """Frames of the shortest utterance that every model can end (of classes that were heard)."""
        reach = self.transitions() > 0
        can, end = self.log_start.isfinite(), self.log_end.isfinite()
        for length in range(1, self.states + 1):
            if (can & end).any(1)[self.heard].all():
                return length
            can = (can[:, :, None] & reach).any(1)
        return self.states

    def projection(self) -> tuple[Tensor, Tensor]:
        """The densities as one product with [x, x²]: log(c_m N(x; mu_m, sigma_m²)) = matrix [x, x²] + bias.

        Returns:
            matrix [models, mixtures * emissions, 2 * dims] and bias [models, mixtures * emissions], mixtures outermost
            so that a sum over them runs over whole rows.
        """
        mean, precision = self.mean.transpose(1, 2), self.variance.transpose(1, 2).reciprocal()
        matrix = torch.cat([mean * precision, -precision / 2], -1)
        constant = (mean.square() * precision - precision.log()).sum(-1) + self.dims * math.log(2 * math.pi)
        bias = self.log_weight.transpose(1, 2) - constant / 2
        return matrix.flatten(1, 2), bias.flatten(1)


def arcs_of(
    topology: Topology, states: int, *, jump: int = 2, min_duration: int = 1, stay: float = 0.5
) -> tuple[Tensor, Tensor, tuple[int, ...] | None, tuple[int, ...]]:
    """Start and transition probabilities of a topology before any training.

    Args:
        topology: "left-right" (stay or go on), "bakis" (also jump over states: Rabiner 1989, eq. 45-46) or "ergodic"
            (from every state to every state, beginning anywhere).
        states: emitting states, before a minimum duration multiplies them.
        jump: with "bakis", how far a transition reaches at most; 2 jumps over one state.
        min_duration: frames that a state lasts at least; each state becomes a chain of that many.
        stay: the probability of staying.

    Returns:
        log start [states * min_duration], log arcs (see `HmmBank`), offsets, tie; float64.

    Raises:
        ValueError: a size below 1, or a minimum duration where states are not in an order.
    """
    if states < 1 or min_duration < 1 or jump < 1:
        raise ValueError(f"states {states}, min_duration {min_duration} and jump {jump}: each must be at least 1")
    if topology == "ergodic":
        if min_duration > 1:
            raise ValueError("min_duration needs states in an order: topology left-right or bakis, not ergodic")
        matrix = torch.full((states, states), (1 - stay) / max(states - 1, 1), dtype=torch.float64)
        matrix.fill_diagonal_(stay if states > 1 else 1.0)
        start = torch.full((states,), 1 / states, dtype=torch.float64)
        return start.log(), matrix.log(), None, tuple(range(states))
    reach = min(jump if topology == "bakis" else 1, max(states - 1, 0))
    total = states * min_duration
    matrix = torch.zeros(total, total, dtype=torch.float64)
    for state in range(states):
        first, last = state * min_duration, (state + 1) * min_duration - 1
        for inner in range(first, last):
            matrix[inner, inner + 1] = 1
        targets = [(state + step) * min_duration for step in range(1, reach + 1) if state + step < states]
        matrix[last, last] = stay if targets else 1.0
        for target in targets:
            matrix[last, target] = (1 - stay) / len(targets)
    gaps = sorted({int(to - origin) for origin, to in matrix.nonzero().tolist()} - {0})
    offsets = (0, *gaps)
    arcs = log_arcs_of(matrix[None], offsets)[0]
    start = torch.full((total,), -torch.inf, dtype=torch.float64)
    start[0] = 0
    return start, arcs, offsets, tuple(index // min_duration for index in range(total))


def log_arcs_of(transitions: Tensor, offsets: tuple[int, ...] | None) -> Tensor:
    """Transition matrices [models, states, states] as `HmmBank.log_arcs`; what lies outside the band is left out."""
    if offsets is None:
        return transitions.log()
    models, states, _ = transitions.shape
    arcs = transitions.new_full((models, len(offsets), states), -torch.inf)
    for band, offset in enumerate(offsets):
        arcs[:, band, : states - offset] = transitions.diagonal(offset, 1, 2).log()
    return arcs


def end_of(end: End, states: int) -> Tensor:
    """What ending in each state adds, nats, float64 [states]: nothing, or -inf where only the last may be the end."""
    ends = torch.zeros(states, dtype=torch.float64)
    if end == "last":
        ends[:-1] = -torch.inf
    return ends
