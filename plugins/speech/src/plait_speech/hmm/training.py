"""What do labelled utterances say about hidden Markov models: the E step, by Baum-Welch or along best paths?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.inference import Offsets, backward, forward, lanes_of, mix, narrow, viterbi, with_squares
from plait_speech.hmm.packed import Packing

Align = Literal["baum-welch", "viterbi"]
Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Labelled utterances in memory as training wants them: frames class by class, so that each class is one matrix
    product, and the order in which recursions go through them all at once. It knows no parameters.

    Args:
        values: [x, x²], the frames of class 0, then of class 1 ..., [frames, 2 * dims].
        spans: where each class's frames begin and end.
        packing: of the utterances, class by class.
        model: the class of each lane, int64 [utterances].
        given: for each utterance in class order, its place in the order it was given.
    """

    values: Tensor
    spans: tuple[tuple[int, int], ...]
    packing: Packing
    model: Tensor
    given: Tensor

    @classmethod
    def of(cls, utterances: Sequence[Tensor], labels: Sequence[int], classes: int, dtype: torch.dtype) -> Corpus:
        """The corpus of these utterances' frames, each [frames, dims].

        Raises:
            ValueError: an utterance has no frame, or frames that are not finite; says which one.
        """
        target = torch.tensor(list(labels), dtype=torch.int64)
        given = torch.argsort(target, stable=True)
        lengths = torch.tensor([len(each) for each in utterances], dtype=torch.int64)
        packing = Packing.of(lengths[given].tolist())
        if not utterances:
            return cls(torch.zeros(0, 0, dtype=dtype), ((0, 0),) * classes, packing, target, given)
        frames = torch.cat([utterances[index] for index in given.tolist()]).to(dtype)
        bad = torch.nonzero(~frames.isfinite().all(1))
        if len(bad):
            ends = lengths[given].cumsum(0)
            which = int(given[int(torch.searchsorted(ends, bad[0, 0], right=True))])
            raise ValueError(f"utterance {which} has a frame that is not finite ({len(bad)} such frames in all)")
        counts = torch.zeros(classes, dtype=torch.int64).index_add_(0, target, lengths)
        stops = counts.cumsum(0).tolist()
        spans = tuple(zip([0, *stops[:-1]], stops, strict=True))
        return cls(with_squares(frames), spans, packing, target[given][packing.order], given)

    @property
    def frames(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Expected counts, what re-estimation needs of the data (Rabiner 1989, sections III.C and IV.A). They add up over
    parts of the data.

    Args:
        log_likelihood: sum over utterances, nats, float64 []; of the best paths after Viterbi alignment.
        frames: how many there are, float64 [].
        start: expected utterances that begin in each state, [models, states].
        arcs: expected transitions, shaped like `HmmBank.log_arcs`.
        weight: expected frames of each mixture, [models, emissions, mixtures].
        first, second: expected sums of x and x², [models, emissions, mixtures, dims].
    """

    log_likelihood: Tensor
    frames: Tensor
    start: Tensor
    arcs: Tensor
    weight: Tensor
    first: Tensor
    second: Tensor

    def reduced(self, reduce: Reduce) -> Statistics:
        """The same, each tensor passed through `reduce`: summed over the processes of a training."""
        return Statistics(*(reduce(getattr(self, name)) for name in self.__slots__))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def expect(bank: HmmBank, corpus: Corpus, align: Align = "baum-welch") -> Statistics:
    """The E step: each class's expected counts on its own utterances, all of them in one pass.

    With gamma_t(i) = alpha_t(i) beta_t(i) / p(O) (Rabiner 1989, eq. 27) and xi_t(i, j) = alpha_t(i) a_ij b_j(o_t+1)
    beta_t+1(j) / p(O) (eq. 37), starts are gamma_1, transitions the sum of xi over t, and a mixture's frames the sum of
    gamma_t(j) times its share of the density (eq. 54). "viterbi" counts the best path instead.

    Raises:
        ValueError: an utterance cannot be produced by its class's model, because it is too short; says which.
    """
    emission, level, shares = _own_emissions(bank, corpus)
    packing = corpus.packing
    start, arcs, ends = (lanes_of(each, corpus.model) for each in (bank.log_start, bank.log_arcs, bank.log_end))
    end = ends[..., :1]
    if align == "viterbi":
        gamma, moves, total = hard_counts(emission, start, arcs, end, bank.offsets, packing)
    else:
        gamma, moves, total = soft_counts(emission, start, arcs, end, bank.offsets, packing)
    total = total.double() + level
    lost = torch.nonzero(~total.isfinite())
    if len(lost):
        lane = int(lost[0, 0])
        which, length = int(corpus.given[packing.order[lane]]), int(packing.lengths[lane])
        raise ValueError(
            f"utterance {which} of {length} frames is impossible under its model, which needs {bank.shortest()} to end"
            f" ({len(lost)} such utterances)"
        )
    weight, moments = _accumulate(_untied(gamma[0], bank), shares, bank, corpus)
    counts = torch.zeros_like(bank.log_arcs).index_add_(0, corpus.model, moves)
    begins = torch.zeros_like(bank.log_start).index_add_(0, corpus.model, gamma[0, :, : len(packing.order)].T)
    first, second = moments.tensor_split(2, -1)
    frames = torch.tensor(float(corpus.frames), dtype=torch.float64)
    return Statistics(total.sum(), frames, begins, counts, weight, first, second)


def likelihood(bank: HmmBank, corpus: Corpus, align: Align = "baum-welch") -> Tensor:
    """The log-likelihood that `expect` would report, at a third of its cost; float64 []."""
    emission, level, _ = _own_emissions(bank, corpus)
    packing = corpus.packing
    start, arcs, end = (lanes_of(each, corpus.model) for each in (bank.log_start, bank.log_arcs, bank.log_end))
    if align == "viterbi":
        total = viterbi(emission, start, arcs, end[..., :1], bank.offsets, packing)[1][0]
    else:
        alpha = forward(emission, start, arcs, bank.offsets, packing)
        total = torch.logsumexp(alpha[0][:, packing.last] + end[0], 0)
    return (total.double() + level).sum()


def _own_emissions(bank: HmmBank, corpus: Corpus) -> tuple[Tensor, Tensor, Tensor | None]:
    """log b of every frame under its own class, [1, states, frames] packed, less the largest of the frame's states;
    the sums of these largest, float64 [lanes]; mixtures' shares, in class order.

    What states share is summed apart so that float32 keeps its digits for their differences.
    """
    matrix, bias = bank.projection()
    joint = bank.mean.new_empty(bank.mixtures * bank.emissions, corpus.frames)
    for model, (begin, finish) in enumerate(corpus.spans):
        if finish > begin:
            joint[:, begin:finish] = torch.addmm(bias[model, :, None], matrix[model], corpus.values[begin:finish].T)
    density, shares = mix(joint.view(bank.mixtures, bank.emissions, -1))
    if bank.tied:
        density = density[list(bank.tie)]
    packing = corpus.packing
    emission = _taken(density, packing.source)[None]
    peak = emission.amax(1, keepdim=True)
    level = torch.zeros(len(packing.order), dtype=torch.float64).index_add_(0, packing.lane, peak[0, 0].double())
    return emission.sub_(peak), level, shares


def _taken(values: Tensor, columns: Tensor) -> Tensor:
    """Columns of [rows, columns]; `gather` takes a fifth of `index_select`'s time here."""
    return values.gather(1, columns.expand(len(values), -1))


def segment(bank: HmmBank, corpus: Corpus) -> Statistics:
    """The counts of a flat start: each utterance is cut into equal parts, one for each emission. A bank of single
    Gaussians; starts and transitions are not counted."""
    packing = corpus.packing
    step = torch.repeat_interleave(torch.arange(len(packing.live)), torch.tensor(packing.live, dtype=torch.int64))
    part = step * bank.emissions // packing.lengths[packing.lane].clamp_min(1)
    gamma = bank.mean.new_zeros(bank.emissions, corpus.frames).scatter_(0, part[None], 1.0)
    weight, moments = _accumulate(gamma, None, bank, corpus)
    first, second = moments.tensor_split(2, -1)
    nothing, frames = torch.zeros((), dtype=torch.float64), torch.tensor(float(corpus.frames), dtype=torch.float64)
    starts, arcs = torch.zeros_like(bank.log_start), torch.zeros_like(bank.log_arcs)
    return Statistics(nothing, frames, starts, arcs, weight, first, second)


def _untied(gamma: Tensor, bank: HmmBank) -> Tensor:
    """Posteriors of emissions [emissions, frames] from those of states."""
    if not bank.tied:
        return gamma
    return gamma.new_zeros(bank.emissions, gamma.shape[1]).index_add_(0, torch.tensor(bank.tie), gamma)


def _accumulate(gamma: Tensor, shares: Tensor | None, bank: HmmBank, corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Frames [models, emissions, mixtures] and sums of [x, x²] [models, emissions, mixtures, 2 * dims], from posteriors
    of emissions [emissions, frames] in packed order."""
    ordered = _taken(gamma, corpus.packing.place)
    parts = ordered[None] if shares is None else shares.mul_(ordered)
    rows = parts.flatten(0, 1)
    weight = bank.mean.new_zeros(bank.models, bank.mixtures, bank.emissions)
    moments = bank.mean.new_zeros(bank.models, bank.mixtures, bank.emissions, 2 * bank.dims)
    for model, (begin, finish) in enumerate(corpus.spans):
        if finish > begin:
            weight[model] = rows[:, begin:finish].sum(1).view(bank.mixtures, -1)
            moments[model] = (rows[:, begin:finish] @ corpus.values[begin:finish]).view(moments[model].shape)
    return weight.transpose(1, 2), moments.transpose(1, 2)


def soft_counts(
    emission: Tensor, start: Tensor, arcs: Tensor, end: Tensor, offsets: Offsets, packing: Packing
) -> tuple[Tensor, Tensor, Tensor]:
    """gamma [1, states, frames], transitions of each lane [lanes, ...], log p(O) of each lane.

    Args:
        emission: log b of every frame under its own lane's states, [1, states, frames]; overwritten.
        start, arcs, end: each lane's own, as in `forward` and `backward`.
    """
    alpha = forward(emission, start, arcs, offsets, packing)
    total = torch.logsumexp(alpha[0][:, packing.last] + end[0], 0)
    beta = backward(emission, end, arcs, offsets, packing)
    if offsets == (0, 1):
        gamma = alpha.add_(beta).sub_(total[packing.lane]).exp_()
        return gamma, _flow(gamma[0], arcs[0], packing), total
    moves = torch.zeros_like(arcs)
    future = emission.add_(beta)  # b_t(j) beta_t(j)
    steps = packing.steps
    for (first, _, _), (then, until, live) in pairwise(steps):
        given = alpha[..., first : first + live] - total[:live]
        then_what, own = future[..., then:until], narrow(arcs, live)
        if offsets is None:
            moves[..., :live] += (given[:, :, None] + own + then_what[:, None]).exp_()
            continue
        for band, offset in enumerate(offsets):
            stop = emission.shape[1] - offset
            joint = given[:, :stop] + own[:, band, :stop]
            moves[:, band, :stop, :live] += joint.add_(then_what[:, offset:]).exp_()
    gamma = alpha.add_(beta).sub_(total[packing.lane]).exp_()
    return gamma, moves[0].movedim(-1, 0), total


def _flow(gamma: Tensor, arcs: Tensor, packing: Packing) -> Tensor:
    """Expected transitions of left-right models, [lanes, 2, states], without xi.

    Where states are only left for the next one, that happens once or never: as often as a later state is the last
    one and was not the first, sum over j > i of gamma_T(j) - gamma_1(j). Frames that are not left so are stayed in.
    That saves two exponentials a frame and state.
    """
    lanes = len(packing.order)
    final, initial = gamma[:, packing.last], gamma[:, :lanes]
    beyond = (final - initial).flip(0).cumsum(0).flip(0)
    left = torch.cat([beyond[1:], torch.zeros_like(beyond[:1])])
    occupied = torch.zeros_like(initial)
    for start, count in zip(packing.starts, packing.live, strict=True):
        occupied[:, :count] += gamma[:, start : start + count]
    moves = torch.stack([occupied - final - left, left])
    return moves.clamp_(min=0).masked_fill_(arcs == -torch.inf, 0).movedim(-1, 0)


def hard_counts(
    emission: Tensor, start: Tensor, arcs: Tensor, end: Tensor, offsets: Offsets, packing: Packing
) -> tuple[Tensor, Tensor, Tensor]:
    """As `soft_counts`, of the best path alone."""
    path, best = viterbi(emission, start, arcs, end, offsets, packing)
    states = path[0]
    gamma = torch.zeros_like(emission)
    gamma[0].scatter_(0, path, 1.0)
    moves = torch.zeros_like(arcs[0]).movedim(-1, 0).contiguous()
    lanes = torch.arange(len(packing.order))
    for (first, _, _), (then, until, live) in pairwise(packing.steps):
        origin, target = states[first : first + live], states[then:until]
        if offsets is None:
            moves[lanes[:live], origin, target] += 1
        else:
            band = torch.searchsorted(torch.tensor(offsets), target - origin)
            moves[lanes[:live], band, origin] += 1
    return gamma, moves, best[0]
