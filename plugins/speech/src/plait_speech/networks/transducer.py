"""What does the recurrent transducer look like?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from plait.errors import InputError
from plait.live import Live
from plait.model import Batch, NeuralModel, Output
from plait.task import Problem, Split
from plait_speech.augmentation import Augment
from plait_speech.decoding.writing import Decoding, Writing
from plait_speech.networks.encoder import Direction, RecurrentEncoder
from plait_speech.networks.following import LiveRecognition
from plait_speech.networks.given import on_its_own, take_given
from plait_speech.networks.processor import FrameOptions, fit_features
from plait_speech.networks.recognizer import RecognitionProcessor
from plait_speech.networks.transducer_loss import transducer_loss
from plait_speech.networks.units import BLANK, UnitKind
from plait_speech.recognition.transcripts import Transcript


class TransducerOptions(FrameOptions):
    """The `model` block of speech/rnn-transducer."""

    units: UnitKind = "characters"
    """What is written: characters, or whole words of the training transcripts (for few words, as digits)."""
    augment: Augment = "mask"
    """In training: none; mask (SpecAugment); full (also noise, other tempos, channels and voices)."""
    width: int = Field(default=96, ge=1)
    """Channels of the convolutions, and recurrent units in each direction."""
    layers: int = Field(default=1, ge=1, le=8)
    """Recurrent layers of the encoder."""
    direction: Direction = "both"
    """both: recurrent units see the whole utterance; forward: only what came before, so that speech can be followed as
    it arrives (`plait predict --live`)."""
    prediction_width: int = Field(default=64, ge=1)
    """Recurrent units of the prediction network, which reads what has been written."""
    joint_width: int = Field(default=64, ge=1)
    """Units where the two meet: batch * states * units * this are held at once in training."""
    max_symbols: int = Field(default=5, ge=1)
    """Units written at one state, at most."""


class RnnTransducer(NeuralModel):
    """A recurrent neural transducer (Graves 2012): an encoder reads the frames as `speech/ctc` does, a prediction
    network reads the units written so far, and their joint says which unit follows, or that none does in this state.
    Unlike CTC it needs no blank between like units, may write several units in one state, and learns which units follow
    each other.

    Found by greedy search, the most probable unit at each place; it has no beam.
    """

    Options: ClassVar[type[TransducerOptions]] = TransducerOptions
    ProcessorType = RecognitionProcessor

    options: TransducerOptions
    processor: RecognitionProcessor

    def __init__(self, *, options: TransducerOptions, problem: Problem, processor: RecognitionProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes: list[str] = []
        size = len(processor.writing.units)
        self.encoder = RecurrentEncoder(
            processor.features.dims, options.width, layers=options.layers, direction=options.direction,
            dropout=options.dropout,
        )  # fmt: skip
        self.embedding = nn.Embedding(size, options.prediction_width)
        self.prediction = nn.GRU(options.prediction_width, options.prediction_width, batch_first=True)
        self.dropout = nn.Dropout(options.dropout)
        self.heard = nn.Linear(self.encoder.width, options.joint_width)
        self.wrote = nn.Linear(options.prediction_width, options.joint_width, bias=False)
        self.head = nn.Linear(options.joint_width, size)

    @classmethod
    def fit_processor(
        cls, *, options: TransducerOptions, problem: Problem, train: Split | None, seed: int
    ) -> RecognitionProcessor:
        writing = Writing.fitted(options.units, Decoding(), problem=problem, train=train)
        features = fit_features(options, problem, train)
        return RecognitionProcessor(features=features, writing=writing, augment=options.augment)

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: TransducerOptions, problem: Problem, train: Split | None
    ) -> RecognitionProcessor:
        taken: RecognitionProcessor = replace(processor, augment=options.augment)
        return taken

    @classmethod
    def build(cls, *, options: Any, problem: Problem, processor: Any, seed: int) -> Self:
        model = super().build(options=options, problem=problem, processor=processor, seed=seed)
        model.notes += take_given(model, options)
        return model

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        return super().load(directory, options=on_its_own(options), problem=problem)

    def forward(self, batch: Batch) -> Output:
        """The loss, where the batch has targets, and as `logits` what the joint gets of the frames, [batch, states,
        joint_width]; `extra` has "lengths", int64 [batch], of the states. A batch may be empty."""
        features, lengths = batch["features"], batch["lengths"]
        empty = not len(features)
        if empty:  # one frame of zeros keeps every parameter in the graph, and is cut away again
            features, lengths = features.new_zeros(1, *features.shape[1:]), lengths.new_ones(1)
        hidden, lengths = self.encoder(features, lengths)
        heard = self.heard(self.dropout(hidden)).float()
        targets = batch.get("targets")
        loss = None
        if targets is not None:
            targets = targets.new_zeros(1, 0) if empty else targets
            cells = self.joint(heard[:, :, None], self._written(targets)[:, None])
            if empty:
                loss = cells.sum() * 0.0
            else:
                losses = transducer_loss(cells, targets, lengths, batch["target_lengths"], blank=BLANK)
                loss = losses.sum() / max(1, batch.count)
        if empty:
            heard, lengths = heard[:0], lengths[:0]
        return Output(loss=loss, logits=heard, extra={"lengths": lengths})

    def _written(self, targets: Tensor) -> Tensor:
        """What the joint gets of the units before each place, [batch, units + 1, joint_width]."""
        before = F.pad(targets, (1, 0), value=BLANK)
        read, _ = self.prediction(self.embedding(before))
        found: Tensor = self.wrote(self.dropout(read))
        return found

    def joint(self, heard: Tensor, wrote: Tensor) -> Tensor:
        """Logits, [..., units + 1], from what both sides give, [..., joint_width]."""
        found: Tensor = self.head(torch.tanh(heard + wrote)).float()
        return found

    def decode(self, output: Output, batch: Batch) -> list[Transcript]:
        search = GreedyTransduction(self, len(output.logits))
        search.advance(output.logits.detach(), output.extra["lengths"])
        return search.texts()

    def live(self) -> Live:
        """Follow one utterance; the final text is the one that `predict` gives.

        Raises:
            InputError: the encoder runs backwards too, or its features need the whole recording.
        """
        if self.options.direction != "forward":
            raise InputError(
                f"{self.options.name} with direction={self.options.direction} needs the whole recording",
                hint="train with model.direction=forward to predict --live",
            )
        self.eval()
        search = GreedyTransduction(self, 1)

        def advance(hidden: Tensor) -> None:
            search.advance(self.heard(hidden[None]).float(), torch.tensor([len(hidden)]))

        return LiveRecognition(self.processor.features, self.encoder, advance=advance, text=lambda _: search.texts()[0])


class GreedyTransduction:
    """The most probable unit at each place, for several utterances at once, in any pieces (Graves 2012, section 2.6,
    with a beam of one). It knows no samples.

    Args:
        model: in evaluation mode.
        size: utterances.
    """

    def __init__(self, model: RnnTransducer, size: int) -> None:
        self._model = model
        device = model.head.weight.device
        self._numbers: list[list[int]] = [[] for _ in range(size)]
        self._scores = torch.zeros(size, dtype=torch.float64, device=device)
        start = torch.full((size,), BLANK, dtype=torch.int64, device=device)
        with torch.inference_mode():
            self._wrote, self._state = self._read(start, None)

    def _read(self, units: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the joint gets of one unit more, [batch, joint_width], and the prediction network's state after it."""
        read, following = self._model.prediction(self._model.embedding(units[:, None]), state)
        return self._model.wrote(read[:, 0]), following

    def advance(self, heard: Tensor, lengths: Tensor) -> None:
        """Further states, [batch, states, joint_width], and how many of them each utterance has, int64 [batch]."""
        with torch.inference_mode():
            for place in range(heard.shape[1]):
                going = place < lengths
                for _ in range(self._model.options.max_symbols):
                    rows = self._model.joint(heard[:, place], self._wrote).log_softmax(dim=-1)
                    best = rows.argmax(dim=-1)
                    self._scores += rows.gather(1, best[:, None])[:, 0].double() * going
                    going = going & (best != BLANK)
                    if not going.any():
                        break
                    self._write(best, going)

    def _write(self, best: Tensor, going: Tensor) -> None:
        for index in going.nonzero()[:, 0].tolist():
            self._numbers[index].append(int(best[index]))
        wrote, state = self._read(best, self._state)
        self._wrote = torch.where(going[:, None], wrote, self._wrote)
        self._state = torch.where(going[None, :, None], state, self._state)

    def texts(self) -> list[Transcript]:
        """The texts so far."""
        units = self._model.processor.writing.units
        return [
            Transcript(units.decode(numbers), float(score))
            for numbers, score in zip(self._numbers, self._scores, strict=True)
        ]
