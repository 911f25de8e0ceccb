"""What does the conformer look like that classifies utterances?"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from plait_speech.networks.classifier import UtteranceClassifier
from plait_speech.networks.conformer_options import ConformerSize
from plait_speech.networks.encoder import Subsampling
from plait_speech.networks.layout import Layout
from plait_speech.networks.processor import NetworkOptions


class ConformerOptions(NetworkOptions):
    """The `model` block of speech/conformer."""

    conformer: ConformerSize = Field(default_factory=lambda: ConformerSize(width=64, inner=128, layers=2))
    """The layers."""


class ConformerClassifier(UtteranceClassifier):
    """Two convolutions that leave a quarter of the frames, conformer layers (Gulati et al. 2020), mean and deviation
    over time. It knows no positions but by its convolutions."""

    Options: ClassVar[type[ConformerOptions]] = ConformerOptions

    options: ConformerOptions

    def make_layers(self, dims: int) -> int:
        size = self.options.conformer
        self.subsampling = Subsampling(dims, size.width)
        self.conformer = size.make(dropout=self.options.dropout)
        return 2 * size.width

    def embed(self, frames: Tensor, layout: Layout) -> Tensor:
        padded = pad_sequence(list(torch.split(frames, layout.lengths.tolist())), batch_first=True)
        states, lengths = self.subsampling(padded, layout.lengths)
        states = self.conformer(states, lengths)
        there = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        return Layout.of(lengths).statistics(states[there])
