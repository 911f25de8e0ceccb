"""Which models find speech: one that compares levels, and one that is fitted to marked recordings?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from plait.engine.base import Engine
from plait.errors import DataError, RecipeError
from plait.model import IterativeModel, Model, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_speech.audio import Utterance
from plait_speech.features import Features
from plait_speech.voice_activity.energy import EnergyDetector
from plait_speech.voice_activity.recordings import marked
from plait_speech.voice_activity.segments import Flags, Segment, flags_of, segments_of, smoothed

HIGHEST_RATE = 16_000
"""Hz; recordings at a higher rate are resampled to it before features are made."""

_STATES = 2  # 0: nobody speaks, 1: somebody does
_AT_ONCE = 64  # recordings whose features are held together


class SmoothingOptions(ModelOptions):
    """What the `model` blocks of the detectors share."""

    gap: float = Field(default=0.10, ge=0, le=10)
    """Seconds of a pause that is still speech: plosives close the mouth for up to a tenth of a second."""
    shortest: float = Field(default=0.05, ge=0, le=10)
    """Seconds below which speech is a click, and none."""
    margin: float = Field(default=0.01, ge=0, le=10)
    """Seconds by which segments are widened at both ends (hangover). Real words begin and end with quiet consonants:
    0.05 keeps them, at the price of as much noise."""


class EnergyOptions(SmoothingOptions):
    """The `model` block of speech/energy-vad."""

    memory: float = Field(default=4.0, gt=0, le=600)
    """Seconds around a frame in which the noise floor and the loudness of speech are looked for."""
    fraction: float = Field(default=0.35, gt=0, lt=1)
    """Where the threshold lies between the noise floor (0) and loud speech (1), in dB; at least 5 and at most 15 dB
    above the floor."""
    contrast: float = Field(default=6.0, ge=0)
    """dB between floor and loudness below which nothing stands out and nobody speaks; steady noise varies by 3 dB."""


class EnergyVad(Model):
    """Speech is what is louder than the noise around it; see `EnergyDetector`. It only predicts, and learns nothing."""

    Options: ClassVar[type[EnergyOptions]] = EnergyOptions

    options: EnergyOptions

    def __init__(self, *, options: EnergyOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.detector = EnergyDetector(
            memory=options.memory, fraction=options.fraction, contrast=options.contrast,
            gap=options.gap, shortest=options.shortest, margin=options.margin,
        )  # fmt: skip

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        _refuse_weights(options)
        return cls(options=options, problem=problem)

    def predict(self, examples: Sequence[Utterance]) -> list[list[Segment]]:
        return [self.detector.segments(each.samples, each.rate) for each in examples]

    def save(self, directory: Path) -> None:
        """Nothing but the options, which the run has, makes this model."""
        (directory / "detector.json").write_text("{}", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        return cls(options=options, problem=problem)


class GmmOptions(SmoothingOptions):
    """The `model` block of speech/gmm-vad."""

    mixtures: int = Field(default=8, ge=1, le=256)
    """Gaussians of speech, and as many of everything else."""
    variance_floor: float = Field(default=0.01, ge=1e-6, le=1)
    """The smallest variance, as a part of the variance of all training frames in that dimension."""
    tolerance: float = Field(default=1e-3, ge=0)
    """The gain of an iteration, in nats per frame, below which the fit has converged."""
    scale: float = Field(default=0.3, gt=0, le=1)
    """A factor on log-likelihoods in decoding: neighbouring frames overlap, and are no independent evidence."""
    rate: int | None = Field(default=None, ge=4000, le=48_000)
    """Samples per second that features are made of, Hz; None: as most training recordings have, 16,000 at most."""
    coefficients: int = Field(default=13, ge=1, le=64)
    """Cepstra of a frame."""
    window: float = Field(default=0.025, gt=0, le=0.2)
    """Seconds of a frame."""
    step: float = Field(default=0.010, gt=0, le=0.2)
    """Seconds from frame to frame."""


class GmmVad(IterativeModel):
    """Two mixtures of diagonal Gaussians over MFCC with deltas, of frames in which somebody speaks and of the others,
    fitted by EM (Rabiner 1989, section IV; Bishop 2006, equations 9.23 to 9.27); a two-state hidden Markov model, whose
    transitions are counted in the marked recordings, joins the frames (Viterbi). It knows no time beyond neighbours.
    """

    Options: ClassVar[type[GmmOptions]] = GmmOptions

    options: GmmOptions

    def __init__(self, *, options: GmmOptions, problem: Problem, features: Features, seed: int) -> None:
        self.options, self.problem, self.features, self.seed = options, problem, features, seed
        self.fitted: dict[str, Tensor] = {}
        self._read: tuple[Split, Tensor, list[Flags]] | None = None

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        _refuse_weights(options)
        rate = options.rate or min(int(problem.get("rate", HIGHEST_RATE)), HIGHEST_RATE)
        try:
            features = Features(
                kind="mfcc", rate=rate, window=options.window, step=options.step, mels=max(23, options.coefficients),
                coefficients=options.coefficients, deltas=1, normalize="mean",
            )  # fmt: skip
        except ValueError as error:
            raise RecipeError(f"model: {error}") from error
        return cls(options=options, problem=problem, features=features, seed=seed)

    def start(self, data: Split, engine: Engine) -> State:
        """Means scattered around that of each class by the seed, variances of the class, equal weights.

        Raises:
            DataError: no frame of the training recordings is speech, or all are.
        """
        frames, flags = self._corpus(data)
        states = torch.from_numpy(np.concatenate(flags)).long()
        one_hot = torch.nn.functional.one_hot(states, _STATES).double()
        counts, sums, squares = (
            engine.reduce(each).cpu() for each in (one_hot.sum(0), one_hot.T @ frames, one_hot.T @ frames**2)
        )
        if not counts.all():
            said = "speech" if not counts[1] else "anything else"
            raise DataError(
                f"no frame of the training recordings is {said}", hint="mark where somebody speaks, and pauses"
            )
        mean = sums / counts[:, None]
        variance = squares / counts[:, None] - mean**2
        whole = squares.sum(0) / counts.sum() - (sums.sum(0) / counts.sum()) ** 2
        floor = self.options.variance_floor * whole.clamp_min(1e-8)
        scatter = torch.from_numpy(np.random.default_rng(self.seed).normal(size=(self.options.mixtures, len(whole))))
        deviation = variance.clamp_min(0).sqrt()[:, None]
        size = (_STATES, self.options.mixtures, len(whole))
        moves = engine.reduce(sum((_moves(each) for each in flags), torch.zeros(_STATES, _STATES).double())).cpu() + 1
        return State(
            {
                "mean": mean[:, None] + scatter * deviation,
                "variance": torch.maximum(variance, floor)[:, None].expand(size).clone(),
                "log_weight": torch.full(size[:2], -math.log(self.options.mixtures), dtype=torch.float64),
                "log_prior": (counts / counts.sum()).log(),
                "log_move": (moves / moves.sum(1, keepdim=True)).log(),
                "floor": floor,
            },
            {"log_likelihood": None},
        )

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        """One iteration of EM over both mixtures; a Gaussian that no frame is left for stays as it is."""
        frames, flags = self._corpus(data)
        active = torch.from_numpy(np.concatenate(flags))
        shape = state.tensors["mean"].shape
        weight, sums, squares = (
            torch.zeros(shape[:2]).double(),
            torch.zeros(shape).double(),
            torch.zeros(shape).double(),
        )
        total = torch.zeros(2, dtype=torch.float64)
        for index, own in enumerate((frames[~active], frames[active])):
            joint = _log_densities(own, state.tensors)[:, index]
            log_sum = joint.logsumexp(1)
            share = (joint - log_sum[:, None]).exp()
            weight[index], sums[index], squares[index] = share.sum(0), share.T @ own, share.T @ own**2
            total += torch.tensor([float(log_sum.sum()), len(own)], dtype=torch.float64)
        weight, sums, squares, total = (engine.reduce(each).cpu() for each in (weight, sums, squares, total))
        alive = (weight > 1e-3)[..., None]
        per = weight.clamp_min(1e-3)[..., None]
        mean = torch.where(alive, sums / per, state.tensors["mean"])
        variance = torch.where(alive, squares / per - mean**2, state.tensors["variance"])
        log_weight = (weight.clamp_min(1e-10) / weight.sum(1, keepdim=True)).log()
        fresh = {"mean": mean, "variance": torch.maximum(variance, state.tensors["floor"]), "log_weight": log_weight}
        level, before = float(total[0] / total[1]), state.values["log_likelihood"]
        converged = before is not None and level - before < self.options.tolerance
        after = State({**state.tensors, **fresh}, {"log_likelihood": level})
        return after, Progress({"log_likelihood": level}, converged=converged)

    def finish(self, state: State) -> None:
        self.fitted = dict(state.tensors)

    def predict(self, examples: Sequence[Utterance]) -> list[list[Segment]]:
        found = []
        for first in range(0, len(examples), _AT_ONCE):
            chunk = examples[first : first + _AT_ONCE]
            for example, frames in zip(chunk, self.features.extract(list(chunk)), strict=True):
                scores = _log_densities(frames.double(), self.fitted).logsumexp(2) * self.options.scale
                found.append(self._segments(_best(scores, self.fitted["log_prior"], self.fitted["log_move"]), example))
        return found

    def _segments(self, active: Flags, example: Utterance) -> list[Segment]:
        options = self.options
        raw = segments_of(active, step=options.step, window=options.window, seconds=example.seconds)
        return smoothed(raw, gap=options.gap, shortest=options.shortest, margin=options.margin, seconds=example.seconds)

    def save(self, directory: Path) -> None:
        save_tensors(self.fitted, directory / "model.safetensors")
        state = {"features": self.features.as_json(), "seed": self.seed}
        (directory / "gmm.json").write_text(json.dumps(state, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "gmm.json").read_text(encoding="utf-8"))
        features = Features.from_json(state["features"])
        model = cls(options=options, problem=problem, features=features, seed=state["seed"])
        model.fitted = load_tensors(directory / "model.safetensors")
        return model

    def _corpus(self, data: Split) -> tuple[Tensor, list[Flags]]:
        """The frames of a training split, float64 [frames, dims], and which of each recording's are speech."""
        if self._read is None or self._read[0] is not data:
            frames, flags = [], []
            for first in range(0, len(data), _AT_ONCE):
                chunk: list[Utterance] = [data[index] for index in range(first, min(first + _AT_ONCE, len(data)))]
                for example, own in zip(chunk, self.features.extract(chunk), strict=True):
                    segments = marked(example)
                    if segments is None:
                        raise DataError(f"{example.id}: is not marked: it has no segments")
                    frames.append(own.double())
                    options = self.options
                    flags.append(flags_of(segments, step=options.step, window=options.window, frames=len(own)))
            self._read = (data, torch.cat(frames), flags)
        return self._read[1:]


def _log_densities(frames: Tensor, fitted: dict[str, Tensor] | Any) -> Tensor:
    """log(weight * density) of each frame under each Gaussian, nats, [frames, states, mixtures]."""
    mean, precision = fitted["mean"], 1 / fitted["variance"]
    constant = fitted["log_weight"] - 0.5 * (
        (mean**2 * precision).sum(2) + fitted["variance"].log().sum(2) + mean.shape[2] * math.log(2 * math.pi)
    )
    size = mean.shape[:2].numel()
    linear = (mean * precision).reshape(size, -1)
    values = frames @ linear.T - 0.5 * (frames**2 @ precision.reshape(size, -1).T)
    return values.reshape(len(frames), *mean.shape[:2]) + constant


def _moves(active: Flags) -> Tensor:
    """How often each state follows each, [states, states]."""
    states = torch.from_numpy(active.astype(np.int64))
    counts = torch.bincount(states[:-1] * _STATES + states[1:], minlength=_STATES**2)
    return counts.reshape(_STATES, _STATES).double()


def _best(scores: Tensor, log_prior: Tensor, log_move: Tensor) -> Flags:
    """The most probable path through two states (Viterbi; Rabiner 1989, equations 32 to 35), [frames]."""
    moves = log_move.tolist()
    quiet, speech = (scores[0] + log_prior).tolist()
    came = np.zeros((len(scores), _STATES), bool)
    for frame, (first, second) in enumerate(scores[1:].tolist(), start=1):
        to_quiet, to_speech = (quiet + moves[0][0], speech + moves[1][0]), (quiet + moves[0][1], speech + moves[1][1])
        came[frame] = to_quiet[1] > to_quiet[0], to_speech[1] > to_speech[0]
        quiet, speech = max(to_quiet) + first, max(to_speech) + second
    path = np.zeros(len(scores), bool)
    path[-1] = speech > quiet
    for frame in range(len(scores) - 1, 0, -1):
        path[frame - 1] = came[frame, int(path[frame])]
    return path


def _refuse_weights(options: ModelOptions) -> None:
    if options.weights is not None or options.from_ is not None or options.freeze:
        raise RecipeError(
            f"{options.name} starts from nothing", hint="leave out model.weights, model.from and model.freeze"
        )
