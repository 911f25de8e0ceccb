"""What does the recurrent network look like that writes text by CTC?"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from plait.errors import InputError
from plait.live import Live
from plait_speech.networks.encoder import Direction, RecurrentEncoder
from plait_speech.networks.following import LiveRecognition
from plait_speech.networks.recognizer import CtcRecognizer, RecognizerOptions
from plait_speech.recognition.transcripts import Transcript


class CtcOptions(RecognizerOptions):
    """The `model` block of speech/ctc."""

    width: int = Field(default=96, ge=1)
    """Channels of the convolutions, and recurrent units in each direction."""
    layers: int = Field(default=1, ge=1, le=8)
    """Recurrent layers."""
    direction: Direction = "both"
    """both: recurrent units see the whole utterance; forward: only what came before, so that speech can be followed as
    it arrives (`plait predict --live`)."""


class Ctc(CtcRecognizer):
    """Two convolutions that leave a quarter of the frames, gated recurrent units, a linear layer, the CTC loss.

    On 40 mel bands and ten words it has 180,811 parameters. It knows no language but what its units follow each other
    by.
    """

    Options: ClassVar[type[CtcOptions]] = CtcOptions

    options: CtcOptions

    def make_layers(self) -> int:
        options = self.options
        self.encoder = RecurrentEncoder(
            self.processor.features.dims,
            options.width,
            layers=options.layers,
            direction=options.direction,
            dropout=options.dropout,
        )
        return self.encoder.width

    def encode(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.encoder(frames, lengths)
        return found

    def live(self) -> Live:
        """Follow one utterance; the final text is the one that `predict` gives.

        Raises:
            InputError: the network runs backwards too, or its features need the whole recording.
        """
        if self.options.direction != "forward":
            raise InputError(
                f"{self.options.name} with direction={self.options.direction} needs the whole recording",
                hint="train with model.direction=forward to predict --live",
            )
        self.eval()
        writing = self.processor.writing
        search = writing.search(self.options.decoding)

        def advance(hidden: Tensor) -> None:
            search.advance(torch.log_softmax(self.head(hidden).float(), dim=-1).numpy())

        def text(final: bool) -> Transcript:
            found = search.best(final=final)
            return Transcript(writing.units.decode(found.numbers), found.score)

        return LiveRecognition(self.processor.features, self.encoder, advance=advance, text=text)
