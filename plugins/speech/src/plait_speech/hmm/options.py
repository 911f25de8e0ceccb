"""Which options do the hidden Markov models share, and how do utterances become their frames?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from plait.errors import DataError, RecipeError, did_you_mean
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_speech.audio import Utterance
from plait_speech.features import Features, Kind, Normalization
from plait_speech.hmm.bank import End, HmmBank, Topology, arcs_of, end_of
from plait_speech.hmm.estimation import Rules, maximize, variance_floor
from plait_speech.hmm.memory import check_memory
from plait_speech.hmm.training import Corpus, Reduce, segment

# The defaults were chosen by three-fold cross-validation on the training recordings of four FSDD speakers: bakis with
# 8 mixtures had 98.8 % right, left-right 97.8 % with 4 and 98.5 % with 8; 8 or 10 states and 20 or 100 iterations
# differed by less than their noise (0.3 points).

HIGHEST_RATE = 16_000
"""Hz; recordings at a higher rate are resampled to it: above 8 kHz speech says little."""

_FITTED_ON = 2_000  # utterances that global statistics are taken of
_LIVE = 6  # arrays of [states, frames] that the E step has at once
_SHOWN = 5  # utterances that an error names


class HmmOptions(ModelOptions):
    """What the `model` blocks of the hidden Markov models share."""

    topology: Topology = "bakis"
    """left-right (stay or go on), bakis (also jump over states), or ergodic (from every state to every state)."""
    states: int = Field(default=8, ge=1, le=256)
    """Emitting states of each class's model."""
    jump: int = Field(default=2, ge=1, le=8)
    """bakis: how far a transition reaches at most."""
    tolerance: float = Field(default=1e-2, ge=0)
    """The gain of an iteration, in nats per frame, below which the fit has converged."""
    score_scale: float = Field(default=1.0, gt=0, le=1)
    """A factor on log-likelihoods before they become probabilities. Frames are taken for independent and are not, so
    that 1 is far too sure of itself; it never changes which class is the most probable."""
    rate: int | None = Field(default=None, ge=4000, le=48_000)
    """Samples per second that features are made of, Hz; None: as most training recordings have, 16,000 at most."""
    kind: Kind = "mfcc"
    """The features: cepstra, which diagonal covariances suit; log mel bands, or Kaldi's."""
    mels: int = Field(default=23, ge=4, le=128)
    """Mel bands."""
    coefficients: int = Field(default=13, ge=1, le=64)
    """mfcc: how many."""
    deltas: int = Field(default=2, ge=0, le=2)
    """How many times slopes over time are appended."""
    window: float = Field(default=0.025, gt=0, le=0.2)
    """Seconds of a frame."""
    step: float = Field(default=0.010, gt=0, le=0.2)
    """Seconds from frame to frame."""
    masking: float = Field(default=0.003, ge=0, lt=1)
    """The part of an utterance's mean power that is added to every bin as white noise would be: what lies further below
    the speech (0.003: 25 dB) tells microphones apart, not words."""
    warps: tuple[float, ...] = Field(default=(1.0,), min_length=1, max_length=9)
    """Train on every utterance once with its spectrum stretched by each of these: as if shorter and longer vocal tracts
    had said it. (0.92, 1.08) takes twice the time; it is for speakers that training never heard."""
    normalize: Normalization = "mean"
    """What is subtracted and divided: each utterance's mean, its mean and deviation, the training set's, or nothing."""

    @field_validator("warps")
    @classmethod
    def _possible(cls, warps: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.5 <= warp <= 2 for warp in warps):
            raise ValueError("a warp lies between 0.5 and 2; vocal tracts of adults differ by a fifth")
        return warps


class GaussianOptions(HmmOptions):
    """What the `model` blocks of hidden Markov models with Gaussian states share."""

    mixtures: int = Field(default=8, ge=1, le=64)
    """Gaussians of each state; they grow 1, 2, 4, 8 by splitting."""
    split_every: int = Field(default=3, ge=1)
    """Iterations from one split to the next."""
    split_depth: float = Field(default=0.2, gt=0, le=0.5)
    """How far apart the halves begin, in standard deviations."""
    variance_floor: float = Field(default=0.05, ge=1e-6, le=1)
    """The smallest variance of a state, as a part of the variance of all training frames in that dimension."""


def make_features(options: HmmOptions, problem: Problem, train: Split | None) -> Features:
    """The features of these options, fitted on `train` where they have something to fit.

    Raises:
        RecipeError: the options contradict each other, or ask for weights to start from.
    """
    if options.weights is not None or options.freeze:
        raise RecipeError(
            f"{options.name} starts from equal parts of each utterance or from a run: there is nothing to freeze",
            hint="leave out model.weights and model.freeze; model.from names a run",
        )
    try:
        features = Features(
            kind=options.kind,
            rate=options.rate or min(int(problem.get("rate", HIGHEST_RATE)), HIGHEST_RATE),
            window=options.window,
            step=options.step,
            mels=options.mels,
            coefficients=options.coefficients,
            deltas=options.deltas,
            masking=options.masking,
            normalize=options.normalize,
        )
    except ValueError as error:
        raise RecipeError(f"model: {error}") from error
    if train is None:
        return features
    stride = max(1, len(train) // _FITTED_ON)
    return features.fitted([train[index] for index in range(0, len(train), stride)])


def make_corpus(
    features: Features, data: Split, labels: Sequence[str], dtype: torch.dtype, options: HmmOptions
) -> Corpus:
    """The frames of a training split, in memory.

    Raises:
        DataError: an utterance has a label that is none of `labels`, frames that are not finite, or asks for more
            memory than is free; names it.
    """
    utterances: list[Utterance] = [data[index] for index in range(len(data))]
    _check_memory(features, utterances, options, dtype)
    known = {label: index for index, label in enumerate(labels)}
    for each in utterances:
        if each.label not in known:
            raise DataError(
                f"{each.id}: label {each.label!r} is not one of the {len(known)} that the model knows",
                hint=did_you_mean(each.label or "", known),
            )
    frames = [each for warp in options.warps for each in features.extract(utterances, warps=_warped(warp, utterances))]
    utterances = utterances * len(options.warps)
    for each, own in zip(utterances, frames, strict=True):
        if not own.isfinite().all():
            raise DataError(f"{each.id}: has frames that are not finite", hint="leave the recording out")
    return Corpus.of(frames, [known[str(each.label)] for each in utterances], len(labels), dtype)


def _warped(warp: float, utterances: Sequence[Utterance]) -> list[float] | None:
    """Each utterance's warp, as `Features.extract` takes them."""
    return None if warp == 1 else [warp] * len(utterances)


def _check_memory(features: Features, utterances: Sequence[Utterance], options: HmmOptions, dtype: torch.dtype) -> None:
    """All utterances go through the E step at once: [x, x²], and its arrays of [states, frames]."""
    width = torch.finfo(dtype).bits // 8
    frame = width * (2 * features.dims + options.states * (_LIVE + getattr(options, "mixtures", 0)))
    needed = [len(options.warps) * frame * features.frames(each.seconds) for each in utterances]
    check_memory(
        utterances, needed, together=True, hint="cut long recordings (start and end), or fewer by data.limit=N"
    )


def check_lengths(bank: HmmBank, corpus: Corpus, data: Split) -> None:
    """Refuse utterances that are too short to pass through their class's model.

    Raises:
        DataError: names them.
    """
    shortest = bank.shortest()
    lengths = corpus.packing.restore(corpus.packing.lengths)
    short = [data[int(corpus.given[index]) % len(data)].id for index in (lengths < shortest).nonzero()[:, 0].tolist()]
    if short:
        more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
        raise DataError(
            f"{len(short)} utterances have fewer frames than the {shortest} that a model takes to its last state: "
            f"{', '.join(short[:_SHOWN])}{more}",
            hint="model.end=any lets them end earlier; or fewer model.states, or model.topology=bakis",
            details={"utterances": short[:100], "total": len(short)},
        )


def topology_of(
    options: HmmOptions, min_duration: int
) -> tuple[Tensor, Tensor, tuple[int, ...] | None, tuple[int, ...]]:
    """What `arcs_of` gives for these options.

    Raises:
        RecipeError: the topology cannot be.
    """
    try:
        return arcs_of(options.topology, options.states, jump=options.jump, min_duration=min_duration, stay=_STAY)
    except ValueError as error:
        raise RecipeError(f"model: {error}") from error


def flat_start(
    options: GaussianOptions, corpus: Corpus, dims: int, classes: int, *, end: End, min_duration: int, reduce: Reduce
) -> tuple[HmmBank, Tensor, list[int]]:
    """Single Gaussians of equal parts of each utterance.

    Returns:
        The bank, the variance floor [dims], and the classes without any utterance, under which nothing is possible.

    Raises:
        RecipeError: the topology cannot be.
    """
    start, arcs, offsets, tie = topology_of(options, min_duration)
    dtype = corpus.values.dtype
    values = corpus.values.double() if corpus.frames else corpus.values.new_zeros(0, 2 * dims).double()
    total = reduce(torch.tensor(float(corpus.frames), dtype=torch.float64))
    sums = reduce(values.sum(0))
    mean, variance, floor = variance_floor(total, sums[:dims], sums[dims:], options.variance_floor)
    shape = (classes, options.states, 1, dims)
    bank = HmmBank(
        log_start=start.expand(classes, -1).clone(),
        log_arcs=arcs.expand(classes, *arcs.shape).clone(),
        log_end=end_of(end, len(tie)).expand(classes, -1).clone(),
        log_weight=torch.zeros(shape[:3], dtype=torch.float64),
        mean=mean.expand(shape).clone(),
        variance=variance.expand(shape).clone(),
        offsets=offsets,
        tie=tie,
    ).to(dtype)
    counts = segment(bank, corpus).reduced(reduce)
    begun, _ = maximize(bank, counts, Rules(floor=floor))
    absent = (counts.weight.sum((1, 2)) == 0).nonzero()[:, 0].tolist()
    begun.log_start[absent] = -torch.inf
    return begun, floor, absent


_STAY = 0.8  # at 10 ms a frame and 8 states a word of 0.4 s stays 5 frames in each; the first iteration learns it


def where(dead: Sequence[Any], labels: Sequence[str]) -> str:
    """Where a dead state [model, state, mixture] is, in words: "label '7', state 3, mixture 1"."""
    model, emission, mixture = dead
    part = "" if mixture is None else f", mixture {mixture}"
    return f"label {labels[model]!r}, state {emission}{part}"
