"""What does the conformer look like that writes text by CTC?"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from plait_speech.networks.conformer_options import ConformerSize
from plait_speech.networks.encoder import Subsampling
from plait_speech.networks.recognizer import CtcRecognizer, RecognizerOptions


class CtcConformerOptions(RecognizerOptions):
    """The `model` block of speech/ctc-conformer."""

    conformer: ConformerSize = Field(default_factory=ConformerSize)
    """The layers."""


class CtcConformer(CtcRecognizer):
    """Two convolutions that leave a quarter of the frames, conformer layers (Gulati et al. 2020), a linear layer, the
    CTC loss. It needs the whole utterance."""

    Options: ClassVar[type[CtcConformerOptions]] = CtcConformerOptions

    options: CtcConformerOptions

    def make_layers(self) -> int:
        size = self.options.conformer
        self.subsampling = Subsampling(self.processor.features.dims, size.width)
        self.conformer = size.make(dropout=self.options.dropout)
        return size.width

    def encode(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states, lengths = self.subsampling(frames, lengths)
        return self.conformer(states, lengths), lengths
