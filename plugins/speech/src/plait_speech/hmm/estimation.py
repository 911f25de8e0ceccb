"""Which parameters of hidden Markov models do expected counts call for: the M step, the flat start, more mixtures?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.training import Statistics

LEAST = 1e-3
"""Expected frames below which a state or mixture is dead: its mean would be one frame's rounding errors."""


@dataclass(frozen=True, slots=True)
class Dead:
    """An emission, or one mixture of it, that no frame was left for; it keeps its last good parameters.

    Args:
        model, emission: where it is.
        mixture: None where the whole emission is dead.
    """

    model: int
    emission: int
    mixture: int | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What re-estimation must keep to.

    Args:
        floor: the smallest variance of each dimension, [dims]; None: none.
        old_means: take variances around the means of the iteration before, as hmmlearn 0.3.3's GMMHMM does. That is no
            exact EM: after ten iterations on spoken digits the log-likelihood is 0.7 % off.
        prior: added to each sum of squared deviations, as hmmlearn's GaussianHMM does with its covars_prior (0.01).
    """

    floor: Tensor | None = None
    old_means: bool = False
    prior: float = 0.0


def maximize(bank: HmmBank, statistics: Statistics, rules: Rules | None = None) -> tuple[HmmBank, list[Dead]]:
    """The M step: new parameters from expected counts (Rabiner 1989, eq. 40a-c and 52-54).

    pi_i, a_ij and c_jm are relative counts; mu_jm is the mean of the frames by their shares, sigma²_jm their variance
    (never below the floor, which is the likeliest variance that is not below it). Where there are no counts, parameters
    stay as they were, so a likelihood never falls and nothing becomes NaN.

    Returns:
        The new bank, and what is dead.
    """
    rules = rules or Rules()
    frames, old = statistics.weight, bank
    alive = frames > LEAST
    count = torch.where(alive, frames, 1.0)[..., None]
    mean = statistics.first / count
    if rules.old_means:
        scatter = statistics.second - 2 * old.mean * statistics.first + old.mean.square() * frames[..., None]
    else:
        scatter = statistics.second - mean.square() * count
    variance = (scatter + rules.prior) / count
    if rules.floor is not None:
        variance = torch.maximum(variance, rules.floor.to(variance.dtype))
    good = alive & mean.isfinite().all(-1) & variance.isfinite().all(-1) & (variance > 0).all(-1)
    occupied = frames.sum(-1, keepdim=True)
    weight = torch.where(occupied > LEAST, (frames / occupied.clamp_min(LEAST)).log(), old.log_weight)
    start = _normalised(statistics.start, old.log_start, 1)
    if bank.offsets is None:
        arcs = _normalised(statistics.arcs, old.log_arcs, 2)
    else:
        arcs = _normalised(statistics.arcs, old.log_arcs, 1)
    new = replace(
        bank,
        log_start=start,
        log_arcs=arcs,
        log_weight=weight,
        mean=torch.where(good[..., None], mean, old.mean),
        variance=torch.where(good[..., None], variance, old.variance),
    )
    return new, dead_of(good, bank)


def _normalised(counts: Tensor, old: Tensor, dim: int) -> Tensor:
    """log of counts as shares along `dim`; the old values where there is nothing to share."""
    total = counts.sum(dim, keepdim=True)
    enough = total > torch.finfo(counts.dtype).tiny
    return torch.where(enough, (counts / torch.where(enough, total, 1.0)).log(), old)


def dead_of(good: Tensor, bank: HmmBank) -> list[Dead]:
    """What is not good, bool [models, emissions, mixtures]; a class that was never heard has not died."""
    good = good | ~bank.heard[:, None, None]
    whole = ~good.any(-1)
    found = [Dead(model, emission, None) for model, emission in whole.nonzero().tolist()]
    parts = (~good & ~whole[..., None]).nonzero().tolist()
    return found + [Dead(model, emission, mixture) for model, emission, mixture in parts]


def variance_floor(total: Tensor, first: Tensor, second: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean and variance of all training frames, and the floor that is a share of that variance, each [dims].

    A dimension that never changes counts as one of variance 1: a class cannot be told by it, and its floor is not 0.

    Args:
        total: frames, [].
        first, second: sums of x and x² over all training frames, [dims].
    """
    mean = first / total.clamp_min(1)
    variance = (second / total.clamp_min(1) - mean.square()).clamp_min(0)
    variance = torch.where(variance > 1e-9 * (1 + mean.square()), variance, 1.0)
    return mean, variance, share * variance


def split(bank: HmmBank, mixtures: int, *, depth: float, seed: int, floor: Tensor | None = None) -> HmmBank:
    """The bank with more mixtures: the heaviest of each emission become two, a little apart.

    Both halves keep the sum of weights, and mean and variance along each dimension: they lie `depth` standard
    deviations to either side (times a standard normal number, drawn for each dimension), and are narrower by that.

    Args:
        mixtures: how many afterwards, at most twice as many as now.
        depth: standard deviations; towards 0 the densities become those of before.
        seed: of the directions.
    """
    new = mixtures - bank.mixtures
    if not 0 <= new <= bank.mixtures:
        raise ValueError(f"{bank.mixtures} mixtures become {bank.mixtures} to {2 * bank.mixtures}, not {mixtures}")
    heaviest = bank.log_weight.topk(new, -1).indices  # [models, emissions, new]
    pick = heaviest[..., None].expand(-1, -1, -1, bank.dims)
    weight = bank.log_weight.gather(2, heaviest) - torch.log(torch.tensor(2.0, dtype=bank.mean.dtype))
    mean, variance = bank.mean.gather(2, pick), bank.variance.gather(2, pick)
    generator = torch.Generator().manual_seed(seed)
    aside = torch.randn(mean.shape, dtype=torch.float64, generator=generator).clamp_(-2, 2).to(mean.dtype) * depth
    narrower = variance * (1 - aside.square()).clamp_min(0.1)
    if floor is not None:
        narrower = torch.maximum(narrower, floor.to(variance.dtype))
    apart = aside * variance.sqrt()
    return replace(
        bank,
        log_weight=torch.cat([bank.log_weight.scatter(2, heaviest, weight), weight], 2),
        mean=torch.cat([bank.mean.scatter(2, pick, mean + apart), mean - apart], 2),
        variance=torch.cat([bank.variance.scatter(2, pick, narrower), narrower], 2),
    )
