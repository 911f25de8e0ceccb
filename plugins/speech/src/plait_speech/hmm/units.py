"""Which units (words, phones) have models in a bank, where do their states lie, and how do they follow one another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plait_speech.hmm.bank import HmmBank, Topology

OFFSETS = (0, 1, 2)
"""Transitions of a state: stay; go on; go on over one state. From a unit's last state that is: into the silence; over
it, into the next unit's first state. So chains of units with optional silences keep one narrow band."""

Parts = list[tuple[int, int, int]]
"""What was said and when: (unit, first frame, frame after the last)."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Units of equally many states, and one state of silence, side by side in a bank of one "model".

    State s of unit u is the bank's state u * states + s; the silence is the last one. It knows no parameters.

    Args:
        units: their names.
        states: of each unit.
    """

    units: tuple[str, ...]
    states: int

    @property
    def silence(self) -> int:
        """The bank's state of silence."""
        return len(self.units) * self.states

    @property
    def total(self) -> int:
        """States of the bank."""
        return self.silence + 1

    def chain(self, units: Sequence[int]) -> list[int]:
        """The states of these units one after the other, a silence before, between and after them."""
        found = [self.silence]
        for unit in units:
            found += [*range(unit * self.states, (unit + 1) * self.states), self.silence]
        return found

    def shortest(self, units: int, topology: Topology) -> int:
        """Frames of the shortest utterance that can be so many units: no silence, as many states jumped over as may."""
        return max(1, units) * (self.states if topology == "left-right" else self.states // 2 + 1)

    def arcs(self, topology: Topology, *, stay: float = 0.8) -> Tensor:
        """Transitions before any training, log, float64 [1, offsets, states]. A unit is left from its last state only,
        half of the time into the silence.

        Raises:
            ValueError: the topology is ergodic: units have a beginning and an end.
        """
        if topology == "ergodic":
            raise ValueError("units are joined at their first and last states: topology left-right or bakis")
        arcs = torch.zeros(len(OFFSETS), self.total, dtype=torch.float64)
        words = arcs[:, : self.silence].view(len(OFFSETS), len(self.units), self.states)
        words[0] = stay
        words[1] = 1 - stay
        if topology == "bakis" and self.states > 2:
            words[1:, :, :-2] = (1 - stay) / 2
        words[1:, :, -1] = (1 - stay) / 2
        arcs[0, -1], arcs[1, -1] = stay, 1 - stay
        return arcs.log()[None]

    def apart(self, bank: HmmBank) -> HmmBank:
        """The units' own models, [units, ...], without the silence."""
        many = len(self.units)
        tensors = {
            name: values[0, : self.silence].view(many, self.states, *values.shape[2:])
            for name, values in bank.tensors().items()
            if name != "log_arcs"
        }
        arcs = bank.log_arcs[0, :, : self.silence].reshape(len(OFFSETS), many, self.states).transpose(0, 1)
        return HmmBank(**tensors, log_arcs=arcs, offsets=OFFSETS, tie=tuple(range(self.states)))

    def together(self, units: HmmBank, bank: HmmBank) -> HmmBank:
        """The bank with the units' models replaced; the inverse of `apart`."""
        tensors = {name: values.clone() for name, values in bank.tensors().items()}
        for name, values in units.tensors().items():
            if name == "log_arcs":
                tensors[name][0, :, : self.silence] = values.transpose(0, 1).flatten(1)
            else:
                tensors[name][0, : self.silence] = values.flatten(0, 1)
        return HmmBank.of(tensors, bank.shape())

    def name(self, state: int) -> str:
        """A state of the bank in words: "unit 'seven', state 3"."""
        if state == self.silence:
            return "the silence"
        return f"unit {self.units[state // self.states]!r}, state {state % self.states}"

    def parts(self, path: Sequence[int], units: Sequence[int]) -> Parts:
        """Where the units of a chain lie, from positions in `chain(units)`, one a frame."""
        found: Parts = []
        for index, unit in enumerate(units):
            first = 1 + index * (self.states + 1)
            frames = [frame for frame, position in enumerate(path) if first <= position < first + self.states]
            found.append((unit, frames[0], frames[-1] + 1))
        return found


def equal_parts(frames: int, units: Sequence[int]) -> Parts:
    """The units spread evenly over the frames: where nothing better is known."""
    edges = [round(index * frames / max(1, len(units))) for index in range(len(units) + 1)]
    return [(unit, edges[index], edges[index + 1]) for index, unit in enumerate(units)]


def flat_bank(inventory: Inventory, topology: Topology, mean: Tensor, variance: Tensor) -> HmmBank:
    """A bank in which every state is the same single Gaussian, float64.

    Args:
        mean, variance: [dims].
    """
    shape = (1, inventory.total, 1, len(mean))
    nothing = torch.zeros(1, inventory.total, dtype=torch.float64)
    return HmmBank(
        log_start=nothing, log_arcs=inventory.arcs(topology), log_end=nothing.clone(),
        log_weight=torch.zeros(shape[:3], dtype=torch.float64), mean=mean.expand(shape).clone(),
        variance=variance.expand(shape).clone(), offsets=OFFSETS, tie=tuple(range(inventory.total)),
    )  # fmt: skip
