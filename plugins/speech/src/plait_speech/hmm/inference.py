"""How likely is an utterance under hidden Markov models, and which states did it go through?

All functions work on packed lanes (`Packing`) and on log probabilities, so that one outlier frame cannot underflow:
alpha, beta and emissions are [models, states, frames]. Transitions `arcs` are those of `HmmBank` with a last dimension
that is 1 (every lane under every model) or the number of lanes (each lane under its own model; models is then 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.packed import Packing

BLOCK = 8192  # frames scored at once: 10 models x 8 states of them in float64 are 5 MB, which stays in the cache

Offsets = tuple[int, ...] | None


def with_squares(frames: Tensor) -> Tensor:
    """[x, x²], what `HmmBank.projection` multiplies: [frames, 2 * dims]."""
    return torch.cat([frames, frames.square()], 1)


def mix(joint: Tensor) -> tuple[Tensor, Tensor | None]:
    """log b = log of the sum of c_m N_m over mixtures (Rabiner 1989, eq. 49), and each mixture's share of it.

    Args:
        joint: log(c_m N_m), [..., mixtures, emissions, frames]; overwritten.

    Returns:
        log b [..., emissions, frames] and shares like `joint`, summing to 1; None where there is one mixture.
    """
    if joint.shape[-3] == 1:
        return joint.squeeze(-3), None
    peak = joint.amax(-3, keepdim=True)
    shares = joint.sub_(peak).exp_()
    total = shares.sum(-3, keepdim=True)
    shares.div_(total)
    return total.log_().add_(peak).squeeze(-3), shares


def emit(bank: HmmBank, squares: Tensor) -> Tensor:
    """log b_j(o) of every frame under every model's states, [models, states, frames] (one matrix product)."""
    matrix, bias = bank.projection()
    flat = torch.addmm(bias.reshape(-1, 1), matrix.flatten(0, 1), squares.T)
    density, _ = mix(flat.view(bank.models, bank.mixtures, bank.emissions, -1))
    return density[:, list(bank.tie)] if bank.tied else density


def advance(alpha: Tensor, arcs: Tensor, offsets: Offsets) -> Tensor:
    """log of sum_i alpha_t(i) a_ij: induction without the emission (Rabiner 1989, eq. 20), [models, states, lanes]."""
    if offsets is None:
        return torch.logsumexp(alpha[:, :, None] + arcs, 1)
    after = alpha + arcs[:, 0]
    for band, offset in enumerate(offsets[1:], start=1):
        entered = after[:, offset:]
        torch.logaddexp(entered, alpha[:, :-offset] + arcs[:, band, :-offset], out=entered)
    return after


def retreat(future: Tensor, arcs: Tensor, offsets: Offsets) -> Tensor:
    """log of sum_j a_ij future(j), with future = b_j(o_t+1) beta_t+1(j) (Rabiner 1989, eq. 25)."""
    if offsets is None:
        return torch.logsumexp(future[:, None] + arcs, 2)
    before = future + arcs[:, 0]
    for band, offset in enumerate(offsets[1:], start=1):
        left = before[:, :-offset]
        torch.logaddexp(left, future[:, offset:] + arcs[:, band, :-offset], out=left)
    return before


def narrow(arcs: Tensor, lanes: int) -> Tensor:
    """The transitions of the first lanes."""
    return arcs if arcs.shape[-1] == 1 else arcs[..., :lanes]


def _some(values: Tensor, first: int, after: int) -> Tensor:
    """What lanes `first` to `after` have of values [..., 1 or lanes]."""
    return values if values.shape[-1] == 1 else values[..., first:after]


def forward(emission: Tensor, start: Tensor, arcs: Tensor, offsets: Offsets, packing: Packing) -> Tensor:
    """log alpha_t(i) = log p(o_1..o_t, q_t = i) (Rabiner 1989, eq. 19-20), [models, states, frames].

    Args:
        emission: log b, [models, states, frames].
        start: log pi, [models, states, 1 or lanes].
    """
    alpha = torch.empty_like(emission)
    current = start
    for step, (first, after, lanes) in enumerate(packing.steps):
        if step:
            current = advance(current[..., :lanes], narrow(arcs, lanes), offsets)
        current = torch.add(current, emission[..., first:after], out=alpha[..., first:after])
    return alpha


def backward(emission: Tensor, end: Tensor, arcs: Tensor, offsets: Offsets, packing: Packing) -> Tensor:
    """log beta_t(i) = log p(o_t+1..o_T | q_t = i) (Rabiner 1989, eq. 24-25), [models, states, frames].

    Args:
        end: what ending in a state adds, nats, [models, states, 1 or lanes]; Rabiner's beta_T = 1 is 0 everywhere.
    """
    beta = torch.empty_like(emission)
    steps = packing.steps
    known = 0
    for step in range(len(steps) - 1, -1, -1):
        first, after, lanes = steps[step]
        if known:
            then, until, _ = steps[step + 1]
            future = emission[..., then:until] + beta[..., then:until]
            beta[..., first : first + known] = retreat(future, narrow(arcs, known), offsets)
        if lanes > known:
            beta[..., first + known : after] = _some(end, known, lanes)
        known = lanes
    return beta


def score(bank: HmmBank, frames: Tensor, packing: Packing, *, block: int = BLOCK) -> Tensor:
    """log p(O | lambda) of every utterance under every model (Rabiner 1989, eq. 21), nats.

    Only the newest alpha is kept, and emissions are made a block of steps at a time: memory does not grow with the
    length of the utterances.

    Args:
        frames: the utterances laid end to end, [frames, dims].
        packing: of their lengths.

    Returns:
        float64 [utterances, models]; minus infinity where a model cannot end as soon as the utterance does.
    """
    lanes = len(packing.order)
    totals = torch.empty(bank.models, lanes, dtype=torch.float64)
    end, arcs, alpha = bank.log_end[..., None], bank.log_arcs[..., None], bank.log_start[..., None]
    level = torch.zeros(bank.models, lanes, dtype=torch.float64)
    for steps in packing.blocks(block):
        begin, finish = steps[0][0], steps[-1][1]
        emission = emit(bank, with_squares(frames[packing.source[begin:finish]]))
        for first, after, live in steps:
            if first:
                if live < lanes:
                    totals[:, live:lanes] = level[:, live:lanes] + torch.logsumexp(alpha[..., live:] + end, 1)
                alpha = advance(alpha[..., :live], arcs, bank.offsets)
            alpha = alpha + emission[..., first - begin : after - begin]
            lanes = live
        # what the states share is summed apart, in float64: float32 keeps its digits for their differences
        peak = alpha.amax(1).nan_to_num(neginf=0.0)
        alpha = alpha - peak[:, None]
        level[:, :lanes] += peak
    if lanes:
        totals[:, :lanes] = level[:, :lanes] + torch.logsumexp(alpha + end, 1)
    return packing.restore(totals).T


@dataclass(frozen=True, slots=True, eq=False)
class StatePath:
    """The most likely states of an utterance under one model.

    Args:
        states: int64 [frames].
        log_probability: log p(O, Q* | lambda), nats.
    """

    states: Tensor
    log_probability: float


def viterbi(emission: Tensor, start: Tensor, arcs: Tensor, end: Tensor, offsets: Offsets, packing: Packing) -> tuple[
    Tensor, Tensor
]:  # fmt: skip
    """The most likely state sequence of every lane (Rabiner 1989, eq. 32-35).

    Args:
        emission, start, arcs: as in `forward`.
        end: as in `backward`.

    Returns:
        states, int64 [models, frames] packed, and log p(O, Q*), nats, [models, lanes]. Of equals, the transition with
        the smaller offset (dense: from the lower state) is taken.
    """
    models, states, frames = emission.shape
    steps = packing.steps
    came_from = torch.zeros(models, states, frames, dtype=torch.int64)
    best = emission.new_empty(models, len(packing.order))
    path = torch.zeros(models, frames, dtype=torch.int64)
    own = torch.arange(states)[:, None]
    delta = start
    for step, (first, after, live) in enumerate(steps):
        if step:
            delta, came_from[..., first:after] = _strongest(delta[..., :live], narrow(arcs, live), offsets, own)
        delta = delta + emission[..., first:after]
        ending = live - (steps[step + 1][2] if step + 1 < len(steps) else 0)
        if ending:
            best[:, live - ending : live], path[:, after - ending : after] = (
                delta[..., live - ending :] + _some(end, live - ending, live)
            ).max(1)
    for step in range(len(steps) - 2, -1, -1):
        (first, _, _), (then, until, live) = steps[step], steps[step + 1]
        path[:, first : first + live] = came_from[..., then:until].gather(1, path[:, None, then:until])[:, 0]
    return path, best


def _strongest(delta: Tensor, arcs: Tensor, offsets: Offsets, own: Tensor) -> tuple[Tensor, Tensor]:
    """max_i delta(i) a_ij and the i that has it, each [models, states, lanes]."""
    if offsets is None:
        strongest, origin = (delta[:, :, None] + arcs).max(1)
        return strongest, origin
    after = delta + arcs[:, 0]
    origin = own.expand(after.shape).clone()
    for band, offset in enumerate(offsets[1:], start=1):
        coming = delta[:, :-offset] + arcs[:, band, :-offset]
        better = coming > after[:, offset:]
        after[:, offset:] = torch.where(better, coming, after[:, offset:])
        origin[:, offset:] = torch.where(better, own[:-offset].expand(coming.shape), origin[:, offset:])
    return after, origin


def best_paths(bank: HmmBank, frames: Tensor, packing: Packing, model: Sequence[int]) -> list[StatePath]:
    """The most likely states of each utterance under one model each (forced alignment).

    Args:
        frames: the utterances laid end to end, [frames, dims].
        model: for each utterance, its model.

    Returns:
        One `StatePath` an utterance, in order; its log probability is -inf where the utterance is too short to end.
    """
    chosen = torch.tensor(list(model), dtype=torch.int64)[packing.order]
    emission = emit(bank, with_squares(frames[packing.source]))
    own = emission.gather(0, chosen[packing.lane].expand(1, bank.states, -1))
    start, arcs, end = (lanes_of(each, chosen) for each in (bank.log_start, bank.log_arcs, bank.log_end))
    # every model ends in the same states: `end` is one column for all lanes
    states, best = viterbi(own, start, arcs, end[..., :1], bank.offsets, packing)
    found = packing.unpack(states[0])
    totals = packing.restore(best[0]).tolist()
    return [StatePath(each, total) for each, total in zip(found, totals, strict=True)]


def lanes_of(values: Tensor, model: Tensor) -> Tensor:
    """Parameters [models, ...] as each lane's model has them, [1, ..., lanes]."""
    return values[model].movedim(0, -1)[None].contiguous()


class Online:
    """The log-likelihoods of one utterance while it is still being heard; memory does not grow. It knows no end: a
    model that must end in its last state is judged by `finish`."""

    def __init__(self, bank: HmmBank) -> None:
        self._bank = bank
        self._alpha: Tensor | None = None
        self._level = torch.zeros(bank.models, dtype=torch.float64)
        self.frames = 0

    def push(self, frames: Tensor) -> Tensor:
        """Hear further frames [frames, dims]; log p(o_1..o_t), nats, float64 [models]."""
        bank = self._bank
        emission = emit(bank, with_squares(frames))
        for step in range(len(frames)):
            if self._alpha is None:
                alpha = bank.log_start[..., None]
            else:
                alpha = advance(self._alpha, bank.log_arcs[..., None], bank.offsets)
            self._alpha = alpha + emission[..., step : step + 1]
            self.frames += 1
        if self._alpha is None:
            return self._level.clone()
        peak = self._alpha.amax(1).nan_to_num(neginf=0.0)
        self._alpha = self._alpha - peak[:, None]
        self._level += peak[:, 0]
        return self._level + torch.logsumexp(self._alpha[..., 0], 1)

    def finish(self) -> Tensor:
        """log p(O) of what was heard, ends counted, nats, float64 [models]: what `score` gives for the whole."""
        if self._alpha is None:
            return self._level.clone()
        return self._level + torch.logsumexp(self._alpha[..., 0] + self._bank.log_end, 1)
