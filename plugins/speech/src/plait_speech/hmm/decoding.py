"""Which units were said? Viterbi through a network in which every unit may follow every other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.inference import emit, with_squares
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.units import Inventory, Parts

Floats = npt.NDArray[np.floating[Any]]
_ENTERED = 3  # beside the offsets 0, 1 and 2: the unit begins here


@dataclass(frozen=True, slots=True)
class Decoded:
    """The most likely units of an utterance.

    Args:
        parts: the units, and their frames.
        log_probability: of the best path, the network's own probabilities and penalties counted, nats.
    """

    parts: Parts
    log_probability: float


def decode(
    bank: HmmBank, inventory: Inventory, utterances: Sequence[Tensor], *, insertion_penalty: float = 0.0
) -> list[Decoded]:
    """The best path of each utterance through the loop of all units with silences between them, all utterances at once.

    One token for each state (Young, Russell and Thornton 1989, Token Passing): inside a unit it moves as in any left-
    right model (Rabiner 1989, eq. 32-33); from the last states of all units the best token goes into the silence, and
    the best of these and the silence's into the first states of all units, which are equally probable. That is the
    one-pass form of Rabiner's level building (section V.C) without a bound on the number of units.

    Recursions are NumPy's: an operation on few numbers takes a fifth of torch's time, and a single utterance is few.

    Args:
        bank: of the inventory's units.
        utterances: frames, each [frames, dims].
        insertion_penalty: nats that every unit costs; more makes fewer units.
    """
    packing = Packing.of([len(each) for each in utterances])
    frames = torch.cat(list(utterances))[packing.source].to(bank.mean.dtype)
    emission = emit(bank, with_squares(frames))[0].numpy()
    lattice = _forward(bank, inventory, emission, packing, insertion_penalty)
    path, entered = _trace(lattice, inventory, packing)
    paths, entries = (packing.unpack(torch.from_numpy(each)) for each in (path, entered))
    best = packing.restore(torch.from_numpy(lattice.best)).tolist()
    return [
        Decoded(_parts(one.numpy(), begin.numpy(), inventory), total)
        for one, begin, total in zip(paths, entries, best, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """Where tokens came from. `back` [states, frames]: the offset inside a unit, or `_ENTERED`; for the silence 0 or
    `_ENTERED`. `entry`, `into` [frames]: the state from which units, and the silence, were entered. `final`, `best`
    [lanes]: the last state of the best path and its log probability."""

    back: npt.NDArray[np.int8]
    entry: npt.NDArray[np.int64]
    into: npt.NDArray[np.int64]
    final: npt.NDArray[np.int64]
    best: Floats


def _forward(bank: HmmBank, inventory: Inventory, emission: Floats, packing: Packing, penalty: float) -> _Lattice:
    units, states = len(inventory.units), inventory.states
    arcs = bank.log_arcs[0].numpy()
    inner, hush = arcs[:, :-1].reshape(3, units, states, 1), arcs[:, -1]
    back = np.zeros(emission.shape, np.int8)
    entry, into = np.zeros(emission.shape[1], np.int64), np.zeros(emission.shape[1], np.int64)
    lanes = len(packing.order)
    best, final = np.empty(lanes, emission.dtype), np.empty(lanes, np.int64)
    last_states = np.arange(units) * states + states - 1
    cost = -np.log(units) - penalty
    steps = packing.steps
    delta = np.full((units, states, lanes), -np.inf, emission.dtype)
    delta[:, 0] = np.log(0.5) + cost
    silent = np.full(lanes, np.log(0.5), emission.dtype)
    for step, (first, after, live) in enumerate(steps):
        if step:
            delta, silent = delta[..., :live], silent[:live]
            new, came = delta + inner[0], np.zeros((units, states, live), np.int8)
            for offset in (1, 2):
                coming = delta[:, :-offset] + inner[offset, :, :-offset]
                better = coming > new[:, offset:]
                came[:, offset:][better] = offset
                np.maximum(new[:, offset:], coming, out=new[:, offset:])
            direct, to_silence = delta[:, -1] + inner[2, :, -1], delta[:, -1] + inner[1, :, -1]
            which, from_silence = direct.argmax(0), silent + hush[1]
            entering = np.maximum(direct.max(0), from_silence)
            entry[first:after] = np.where(from_silence > direct.max(0), inventory.silence, last_states[which])
            better = entering + cost > new[:, 0]
            came[:, 0][better] = _ENTERED
            np.maximum(new[:, 0], entering + cost, out=new[:, 0])
            stay, leaving = silent + hush[0], to_silence.max(0)
            into[first:after] = last_states[to_silence.argmax(0)]
            back[:-1, first:after] = came.reshape(-1, live)
            back[-1, first:after] = np.where(leaving > stay, _ENTERED, 0)
            delta, silent = new, np.maximum(stay, leaving)
        else:
            back[:-1:states, first:after] = _ENTERED
        delta = delta + emission[:-1, first:after].reshape(units, states, live)
        silent = silent + emission[-1, first:after]
        ending = live - (steps[step + 1][2] if step + 1 < len(steps) else 0)
        if ending:
            own = np.concatenate([delta[:, -1, live - ending :], silent[None, live - ending :]])
            ends = np.append(last_states, inventory.silence)
            final[live - ending : live], best[live - ending : live] = ends[own.argmax(0)], own.max(0)
    return _Lattice(back, entry, into, final, best)


def _trace(
    lattice: _Lattice, inventory: Inventory, packing: Packing
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The states of the best paths, [frames] packed, and whether a unit begins in a frame."""
    path = np.zeros(lattice.back.shape[1], np.int64)
    entered = np.zeros(len(path), bool)
    state, steps = lattice.final.copy(), packing.steps
    for step in range(len(steps) - 1, -1, -1):
        first, after, live = steps[step]
        here = state[:live]
        path[first:after] = here
        code = lattice.back[here, np.arange(first, after)]
        silent, begins = here == inventory.silence, code == _ENTERED
        entered[first:after] = begins & ~silent
        inside = np.where(begins, lattice.entry[first:after], here - code)
        state[:live] = np.where(silent, np.where(begins, lattice.into[first:after], here), inside)
    return path, entered


def _parts(path: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_], inventory: Inventory) -> Parts:
    found: Parts = []
    spoken = path != inventory.silence
    for start in np.flatnonzero(begins).tolist():
        after = start + 1
        while after < len(path) and spoken[after] and not begins[after]:
            after += 1
        found.append((int(path[start]) // inventory.states, start, after))
    return found
