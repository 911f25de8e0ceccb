"""What do all networks that write text share: preprocessing, the CTC loss and decoding?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from plait.errors import IntegrityError
from plait.model import Batch, Key, NeuralModel, Output, Processor
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_speech.audio import Utterance
from plait_speech.augmentation import Augment, Augmentation
from plait_speech.decoding.writing import Decoding, Writing, term_count
from plait_speech.features import Features
from plait_speech.networks.given import on_its_own, take_given
from plait_speech.networks.processor import FrameOptions, fit_features
from plait_speech.networks.units import BLANK, UnitKind
from plait_speech.recognition.transcripts import Transcript


class RecognizerOptions(FrameOptions):
    """What the `model` blocks of the recognisers that read feature frames share."""

    units: UnitKind = "characters"
    """What is written: characters, or whole words of the training transcripts (for few words, as digits)."""
    augment: Augment = "mask"
    """In training: none; mask (SpecAugment); full (also noise, other tempos, channels and voices)."""
    decoding: Decoding = Field(default_factory=Decoding)
    """How texts are found."""


@dataclass(frozen=True, kw_only=True)
class RecognitionProcessor(Processor):
    """The preprocessing of a recogniser on feature frames. It knows no file, no network and no device.

    Args:
        features: how samples become frames.
        writing: how texts become numbers, and numbers texts.
        augment: what happens to recordings in training.
    """

    features: Features
    writing: Writing
    augment: Augment = "none"

    def __post_init__(self) -> None:
        if self.augment not in get_args(Augment):
            raise IntegrityError(f"augment is {self.augment!r}, none of {', '.join(get_args(Augment))}")

    def collate(self, examples: Sequence[Utterance], keys: Sequence[Key], *, training: bool) -> Batch:
        """Frames, filled up with zeros to the longest, and targets.

        Returns:
            "features": float32 [batch, frames, dims]; "lengths": int64 [batch], frames; where every example has a text,
            "targets": int64 [batch, units], and "target_lengths": int64 [batch].

        Raises:
            RecipeError: a training transcript has units that are not known.
        """
        augmentation = Augmentation(how=self.augment if training else "none")
        frames = augmentation.frames(examples, keys, self.features)
        padded = pad_sequence(frames, batch_first=True) if frames else torch.zeros(0, 1, self.features.dims)
        tensors = {"features": padded, "lengths": torch.tensor([len(each) for each in frames], dtype=torch.int64)}
        tensors |= self.writing.targets(examples, training=training)
        return Batch(tensors, count=term_count(tensors, len(examples)), size=len(examples))

    def as_json(self) -> dict[str, Any]:
        return {"features": self.features.as_json(), "augment": self.augment, "writing": self.writing.as_json()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields.
        """
        try:
            features, writing = Features.from_json(state["features"]), Writing.from_json(state["writing"])
            return cls(**{**state, "features": features, "writing": writing})
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"processor.json does not describe a recogniser's processor: {error}") from error


def fit_recognition(options: RecognizerOptions, problem: Problem, train: Split | None) -> RecognitionProcessor:
    """The preprocessing that the options ask for.

    Raises:
        RecipeError: the features cannot be made, or training transcripts are needed and there are none.
    """
    writing = Writing.fitted(options.units, options.decoding, problem=problem, train=train)
    return RecognitionProcessor(
        features=fit_features(options, problem, train), writing=writing, augment=options.augment
    )


class CtcRecognizer(NeuralModel):
    """A network that says for each hidden state which unit begins there, or none, fitted by connectionist temporal
    classification (Graves et al. 2006). Subclasses know what happens to the frames.

    It knows samples through its processor only.
    """

    Options: ClassVar[type[ModelOptions]] = RecognizerOptions
    ProcessorType: ClassVar[type[Processor]] = RecognitionProcessor

    options: Any  # a subclass's block: with `dropout` and `decoding`, as `RecognizerOptions` has them
    processor: Any  # a subclass's: with `writing`, and batches as `RecognitionProcessor` makes them

    def __init__(self, *, options: Any, problem: Problem, processor: Any) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes: list[str] = []
        width = self.make_layers()
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, len(processor.writing.units))

    @abstractmethod
    def make_layers(self) -> int:
        """Set the layers for what the processor gives; returns the width of what `encode` gives."""

    @abstractmethod
    def encode(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [batch, frames, dims] of these lengths, int64 [batch], to hidden states [batch, states, width] and how
        many each utterance has."""

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Any:
        return fit_recognition(options, problem, train)

    @classmethod
    def take_processor(cls, processor: Any, *, options: Any, problem: Problem, train: Split | None) -> Any:
        return replace(processor, augment=options.augment)

    @classmethod
    def build(cls, *, options: Any, problem: Problem, processor: Any, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        model.notes += [*take_given(model, options), *options.decoding.unused()]
        return model

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        return super().load(directory, options=on_its_own(options), problem=problem)

    def forward(self, batch: Batch) -> Output:
        """The loss, where the batch has targets, and logits [batch, states, units + 1]; `extra` has "lengths", int64
        [batch], of the states. A batch may be empty."""
        features, lengths = batch["features"], batch["lengths"]
        empty = not len(features)
        if empty:  # one frame of zeros keeps every parameter in the graph, and is cut away again
            features, lengths = features.new_zeros(1, *features.shape[1:]), lengths.new_ones(1)
        hidden, lengths = self.encode(features, lengths)
        logits = self.head(self.dropout(hidden)).float()
        if empty:
            logits, lengths = logits[:0], lengths[:0]
        extra = {"lengths": lengths}
        if batch.get("targets") is None:
            return Output(loss=None, logits=logits, extra=extra)
        loss = logits.sum() if empty else ctc_loss(logits, lengths, batch) / max(1, batch.count)
        return Output(loss=loss, logits=logits, extra=extra)

    def decode(self, output: Output, batch: Batch) -> list[Transcript]:
        rows = torch.log_softmax(output.logits.detach().float(), dim=-1).cpu().numpy()
        lengths = output.extra["lengths"].tolist()
        return [self.written(row[:length]) for row, length in zip(rows, lengths, strict=True)]

    def written(self, rows: Any) -> Transcript:
        """The text of one utterance's rows, [states, units + 1], in nats."""
        search = self.processor.writing.search(self.options.decoding)
        search.advance(rows)
        found = search.best(final=True)
        return Transcript(self.processor.writing.units.decode(found.numbers), found.score)


def ctc_loss(logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Minus ln P(targets), summed over the batch, nats. An utterance that has too few states for its text counts
    nothing: its probability is zero, and an infinite loss would teach nothing."""
    rows = logits.log_softmax(dim=-1).transpose(0, 1)
    return F.ctc_loss(
        rows, batch["targets"], lengths, batch["target_lengths"], blank=BLANK, reduction="sum", zero_infinity=True
    )
