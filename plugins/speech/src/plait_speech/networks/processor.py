"""How do utterances become the padded tensor that a network was fitted on?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import torch
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence

from plait.errors import InputError, IntegrityError, RecipeError, did_you_mean
from plait.model import Batch, Key, Processor
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_speech.audio import Utterance
from plait_speech.augmentation import Augment, Augmentation
from plait_speech.features import Features, Normalization

HIGHEST_RATE = 16_000
"""Hz; recordings at a higher rate are resampled to it: above 8 kHz speech says little."""

_FITTED_ON = 2_000  # utterances that global statistics are taken of


class FrameOptions(ModelOptions):
    """What the `model` blocks of all networks that read feature frames share."""

    rate: int | None = Field(default=None, ge=4000, le=48_000)
    """Samples per second that features are made of, Hz; None: as most training recordings have, 16,000 at most."""
    kind: Literal["log-mel", "fbank", "mfcc"] = "log-mel"
    """The features: log mel bands, Kaldi's, or cepstra (13 of them)."""
    mels: int = Field(default=40, ge=4, le=128)
    """Mel bands."""
    window: float = Field(default=0.025, gt=0, le=0.2)
    """Seconds of a frame."""
    step: float = Field(default=0.010, gt=0, le=0.2)
    """Seconds from frame to frame."""
    # A word is short, and its own mean takes part of it away: FSDD takes 5 to 9 had 2.5 % errors with "mean" and 0.5 %
    # with "global" (one seed). On a speaker and microphone that training never heard "mean" was better: of theo,
    # left out, 85 % were recognised, and 69 % with "global" (12 epochs, one seed).
    normalize: Normalization = "global"
    """What is subtracted and divided: each utterance's mean (for new speakers), its mean and deviation, the
    training set's (for known ones), or nothing."""
    augment: Augment = "full"
    """In training: none; mask (SpecAugment); full (also noise, other tempos, channels and voices)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before the last layer."""


class NetworkOptions(FrameOptions):
    """What the `model` blocks of the networks that classify utterances share."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that is spread over all classes, in training."""


@dataclass(frozen=True, kw_only=True)
class SpeechProcessor(Processor):
    """The preprocessing of a speech network. It knows no file, no network and no device.

    Args:
        labels: class names, in the order of the target indices.
        features: how samples become frames.
        augment: what happens to recordings in training.
    """

    labels: tuple[str, ...]
    features: Features
    augment: Augment = "none"

    def __post_init__(self) -> None:
        if self.augment not in get_args(Augment):
            raise ValueError(f"augment is {self.augment!r}, none of {', '.join(get_args(Augment))}")

    def collate(self, examples: Sequence[Utterance], keys: Sequence[Key], *, training: bool) -> Batch:
        """Frames, filled up with zeros to the longest, and targets.

        Returns:
            "features": float32 [batch, frames, dims]; "lengths": int64 [batch], frames; "label": int64 [batch], where
            every example has one.

        Raises:
            InputError: an example has a label that the problem lacks, or none in training.
        """
        augmentation = Augmentation(how=self.augment if training else "none")
        frames = augmentation.frames(examples, keys, self.features)
        padded = pad_sequence(frames, batch_first=True) if frames else torch.zeros(0, 1, self.features.dims)
        tensors = {"features": padded, "lengths": torch.tensor([len(each) for each in frames], dtype=torch.int64)}
        # speakers that training lacks have no target: they are judged by embeddings
        if training or all(example.label in self.labels for example in examples):
            tensors["label"] = torch.tensor([self._target(example) for example in examples], dtype=torch.int64)
        return Batch(tensors, count=len(examples), size=len(examples))

    def _target(self, example: Utterance) -> int:
        try:
            return self.labels.index(example.label)
        except ValueError:
            what = "has no label" if example.label is None else f"has the label {example.label!r}, which is not a class"
            raise InputError(
                f"utterance {example.id!r} {what}", hint=did_you_mean(example.label or "", self.labels)
            ) from None

    def as_json(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "features": self.features.as_json(), "augment": self.augment}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields.
        """
        try:
            rest = {**state, "labels": tuple(state["labels"]), "features": Features.from_json(state["features"])}
            return cls(**rest)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"processor.json does not describe a speech processor: {error}") from error


def fit_processor(options: NetworkOptions, problem: Problem, train: Split | None) -> SpeechProcessor:
    """The preprocessing that the options ask for, with the statistics that they need of the training data.

    Raises:
        RecipeError: the features cannot be made.
    """
    features = fit_features(options, problem, train)
    return SpeechProcessor(labels=tuple(problem["labels"]), features=features, augment=options.augment)


def fit_features(options: FrameOptions, problem: Problem, train: Split | None) -> Features:
    """The frames that the options ask for, with the mean and deviation of the training data where they need those.

    Raises:
        RecipeError: the features cannot be made.
    """
    rate = options.rate or min(HIGHEST_RATE, int(problem.get("rate", HIGHEST_RATE)))
    try:
        features = Features(
            kind=options.kind,
            rate=rate,
            mels=options.mels,
            coefficients=min(13, options.mels),
            deltas=2 if options.kind == "mfcc" else 0,
            window=options.window,
            step=options.step,
            normalize=options.normalize,
        )
    except ValueError as error:
        samples = round(options.window * rate)
        raise RecipeError(f"model: {error}", hint=f"at {rate} Hz a frame has {samples} samples") from error
    if options.normalize == "global" and train is not None:
        stride = max(1, len(train) // _FITTED_ON)
        features = features.fitted([train[index] for index in range(0, len(train), stride)])
    return features


def take_processor(processor: SpeechProcessor, options: NetworkOptions, problem: Problem) -> SpeechProcessor:
    """An earlier run's preprocessing, for this problem's labels and this recipe's augmentation."""
    return replace(processor, labels=tuple(problem["labels"]), augment=options.augment)
