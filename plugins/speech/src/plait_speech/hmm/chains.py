"""What do transcribed utterances say about the models of their units: embedded re-estimation over chains of them?

Each utterance's model is the chain of its units' models, with a silence that may be skipped before, between and after
them (HTK's embedded re-estimation: S. Young et al., The HTK Book 3.4, section 8.5), so that nobody need say when a word
begins. All chains of a block go through forward, backward and Viterbi together, each lane with its own transitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.inference import StatePath, forward, mix, viterbi, with_squares
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.training import Align, Statistics, hard_counts, soft_counts
from plait_speech.hmm.units import OFFSETS, Inventory

MOST_CELLS = 1 << 21  # states x frames of a block: 16 MB an array in float64, and some six of them live at once
_QUIET = 0.1  # the part of an utterance's frames that a flat start takes for silence


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Utterances that go through the recursions together.

    Args:
        values: [x, x²] in packed order, [frames, 2 * dims].
        packing: of the utterances.
        given: each utterance's place in the corpus.
        used: the bank's states that occur, int64 [used].
        local: for each position of each lane's chain, its place in `used`; positions behind a chain's end have 0.
            int64 [positions, lanes].
        lengths: positions of each lane's chain, int64 [lanes].
    """

    values: Tensor
    packing: Packing
    given: tuple[int, ...]
    used: Tensor
    local: Tensor
    lengths: Tensor

    @property
    def cells(self) -> Tensor:
        """For each position and packed frame, the place in `used`, int64 [positions, frames]."""
        return self.local[:, self.packing.lane]


@dataclass(frozen=True, slots=True, eq=False)
class ChainCorpus:
    """Transcribed utterances in memory, in blocks. It knows no parameters.

    Args:
        inventory: the units.
        blocks: the utterances.
        frames: in all.
        units: the units of each utterance, in the order they were given.
    """

    inventory: Inventory
    blocks: tuple[Block, ...]
    frames: int
    units: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, utterances: Sequence[Tensor], units: Sequence[Sequence[int]], inventory: Inventory, dtype: torch.dtype
    ) -> ChainCorpus:
        """The corpus of these utterances' frames, each [frames, dims], and of their units.

        Raises:
            ValueError: an utterance has no frame, or frames that are not finite; says which one.
        """
        chains = [inventory.chain(each) for each in units]
        for index, each in enumerate(utterances):
            if not len(each) or not each.isfinite().all():
                raise ValueError(f"utterance {index} has {'frames that are not finite' if len(each) else 'no frame'}")
        blocks = [
            _block(group, [utterances[index].to(dtype) for index in group], [chains[index] for index in group])
            for group in _groups([len(each) for each in utterances], [len(each) for each in chains])
        ]
        return cls(inventory, tuple(blocks), sum(map(len, utterances)), tuple(tuple(each) for each in units))


def _groups(frames: Sequence[int], positions: Sequence[int]) -> list[list[int]]:
    """Utterances by falling length of their chains, as many together as `MOST_CELLS` allows."""
    groups: list[list[int]] = []
    held, widest = 0, 0
    for index in sorted(range(len(frames)), key=lambda each: (-positions[each], -frames[each], each)):
        if not groups or widest * (held + frames[index]) > MOST_CELLS:
            groups.append([])
            held, widest = 0, positions[index]
        groups[-1].append(index)
        held += frames[index]
    return groups


def _block(given: Sequence[int], utterances: Sequence[Tensor], chains: Sequence[Sequence[int]]) -> Block:
    packing = Packing.of([len(each) for each in utterances])
    used = sorted({state for chain in chains for state in chain})
    place = {state: index for index, state in enumerate(used)}
    local = torch.zeros(max(map(len, chains)), len(chains), dtype=torch.int64)
    for lane, utterance in enumerate(packing.order.tolist()):
        own = chains[utterance]
        local[: len(own), lane] = torch.tensor([place[state] for state in own])
    lengths = torch.tensor([len(each) for each in chains])[packing.order]
    values = with_squares(torch.cat(list(utterances))[packing.source])
    return Block(values, packing, tuple(given), torch.tensor(used), local, lengths)


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """A block under a bank: log b [1, positions, frames], each frame's largest taken out and summed in `level`
    [lanes]; shares of the mixtures [mixtures, used, frames]; log start, arcs and end of each lane."""

    emission: Tensor
    level: Tensor
    shares: Tensor | None
    start: Tensor
    arcs: Tensor
    end: Tensor


def _lattice(bank: HmmBank, block: Block) -> _Lattice:
    matrix, bias = bank.projection()
    rows = matrix[0].view(bank.mixtures, bank.emissions, -1)[:, block.used].flatten(0, 1)
    constant = bias[0].view(bank.mixtures, bank.emissions)[:, block.used].reshape(-1, 1)
    joint = torch.addmm(constant, rows, block.values.T)
    density, shares = mix(joint.view(bank.mixtures, len(block.used), -1))
    emission = density.gather(0, block.cells)[None]
    peak = emission.amax(1, keepdim=True)
    level = torch.zeros(len(block.lengths), dtype=torch.float64)
    level.index_add_(0, block.packing.lane, peak[0, 0].double())
    positions, lanes = block.local.shape
    place = torch.arange(positions)[:, None]
    ahead = place + torch.tensor(OFFSETS)[:, None, None]  # where a transition leads
    arcs = bank.log_arcs[0][:, block.used[block.local]].masked_fill(ahead >= block.lengths, -torch.inf)
    start = emission.new_full((positions, lanes), -torch.inf)
    start[:2] = torch.where(place[:2] < block.lengths, -torch.log(block.lengths.clamp_max(2).to(start)), -torch.inf)
    last = (place < block.lengths) & (place >= block.lengths - 2)
    end = torch.where(last, 0.0, -torch.inf).to(start)
    return _Lattice(emission.sub_(peak), level, shares, start[None], arcs[None], end[None])


def expect_chains(bank: HmmBank, corpus: ChainCorpus, align: Align = "baum-welch") -> Statistics:
    """The E step, as `training.expect` has it; states that several positions share gather all their counts.

    Raises:
        ValueError: an utterance cannot be produced by its chain, because it is too short; says which.
    """
    return reduce(Statistics.__add__, (_expected(bank, block, align) for block in corpus.blocks), _nothing(bank))


def _expected(bank: HmmBank, block: Block, align: Align) -> Statistics:
    found = _lattice(bank, block)
    count = hard_counts if align == "viterbi" else soft_counts
    gamma, moves, total = count(found.emission, found.start, found.arcs, found.end, OFFSETS, block.packing)
    total = _possible(total.double() + found.level, block)
    statistics = _accumulated(gamma[0], found.shares, bank, block, total.sum())
    states = block.used[block.local].T.reshape(-1)  # lane by lane, as `moves` is
    statistics.arcs[0].index_add_(1, states, moves.movedim(1, 0).reshape(len(OFFSETS), -1))
    return statistics


def likelihood_chains(bank: HmmBank, corpus: ChainCorpus, align: Align = "baum-welch") -> Tensor:
    """The log-likelihood that `expect_chains` would report, at a third of its cost; float64 []."""
    total = torch.zeros((), dtype=torch.float64)
    for block in corpus.blocks:
        found, packing = _lattice(bank, block), block.packing
        if align == "viterbi":
            own = viterbi(found.emission, found.start, found.arcs, found.end, OFFSETS, packing)[1][0]
        else:
            alpha = forward(found.emission, found.start, found.arcs, OFFSETS, packing)
            own = torch.logsumexp(alpha[0][:, packing.last] + found.end[0], 0)
        total += (own.double() + found.level).sum()
    return total


def align_chains(bank: HmmBank, corpus: ChainCorpus) -> list[StatePath]:
    """The most likely path of each utterance through its own chain: positions in `Inventory.chain`, in the order in
    which utterances were given; the log probability is -inf where an utterance is too short."""
    paths: dict[int, StatePath] = {}
    for block in corpus.blocks:
        found = _lattice(bank, block)
        states, best = viterbi(found.emission, found.start, found.arcs, found.end, OFFSETS, block.packing)
        totals = block.packing.restore(best[0].double() + found.level).tolist()
        own = block.packing.unpack(states[0])
        paths |= {
            index: StatePath(*pair) for index, pair in zip(block.given, zip(own, totals, strict=True), strict=True)
        }
    return [paths[index] for index in range(len(paths))]


def segment_chains(bank: HmmBank, corpus: ChainCorpus, loudness: Callable[[Tensor], Tensor]) -> Statistics:
    """The counts of a flat start: the quietest tenth of each utterance's frames is silence, what is left is cut into
    equal parts, one for each state of its units. A bank of single Gaussians; transitions are not counted.

    Args:
        loudness: of frames [frames, dims], [frames].
    """
    total = _nothing(bank)
    for block in corpus.blocks:
        packing = block.packing
        loud = packing.unpack(loudness(block.values[:, : bank.dims]))
        lengths = packing.restore(block.lengths).tolist()
        places = [_placed(own, corpus.inventory, length) for own, length in zip(loud, lengths, strict=True)]
        gamma = bank.mean.new_zeros(len(block.local), len(block.values))
        gamma.scatter_(0, torch.cat(places)[packing.source][None], 1.0)
        total = total + _accumulated(gamma, None, bank, block, torch.zeros((), dtype=torch.float64))
    return total


def _placed(loud: Tensor, inventory: Inventory, length: int) -> Tensor:
    """A position of the chain for each frame, int64 [frames]."""
    frames, units = len(loud), length // (inventory.states + 1)
    place = torch.zeros(frames, dtype=torch.int64)  # position 0 is silence
    quiet = torch.argsort(loud, stable=True)[: round(_QUIET * frames)] if units else torch.arange(frames)
    spoken = torch.ones(frames, dtype=torch.bool)
    spoken[quiet] = False
    state = torch.arange(int(spoken.sum())) * (units * inventory.states) // max(1, int(spoken.sum()))
    place[spoken] = 1 + state + state // inventory.states  # one silence after each unit
    return place


def _nothing(bank: HmmBank) -> Statistics:
    zero = torch.zeros((), dtype=torch.float64)
    weight = torch.zeros_like(bank.log_weight)
    return Statistics(
        zero, zero.clone(), torch.zeros_like(bank.log_start), torch.zeros_like(bank.log_arcs), weight,
        torch.zeros_like(bank.mean), torch.zeros_like(bank.mean),
    )  # fmt: skip


def _accumulated(gamma: Tensor, shares: Tensor | None, bank: HmmBank, block: Block, total: Tensor) -> Statistics:
    """Counts of mixtures from posteriors of positions [positions, frames]; none of transitions yet."""
    found = _nothing(bank)
    own = gamma.new_zeros(len(block.used), gamma.shape[1]).scatter_add_(0, block.cells, gamma)
    parts = own[None] if shares is None else shares.mul_(own)
    sums = (parts.flatten(0, 1) @ block.values).view(bank.mixtures, len(block.used), -1).transpose(0, 1)
    first, second = sums.tensor_split(2, -1)
    found.weight[0, block.used] = parts.sum(-1).T
    found.first[0, block.used], found.second[0, block.used] = first, second
    frames = torch.tensor(float(len(block.values)), dtype=torch.float64)
    return Statistics(total, frames, found.start, found.arcs, found.weight, found.first, found.second)


def _possible(total: Tensor, block: Block) -> Tensor:
    lost = torch.nonzero(~total.isfinite())
    if len(lost):
        lane = int(lost[0, 0])
        which, length = block.given[int(block.packing.order[lane])], int(block.packing.lengths[lane])
        raise ValueError(f"utterance {which} of {length} frames is impossible under its chain ({len(lost)} such)")
    return total
