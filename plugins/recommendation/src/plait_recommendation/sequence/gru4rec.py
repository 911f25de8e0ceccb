"""What does the recurrent sequence model look like?"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from plait_recommendation.sequence.network import SequenceModel, SequenceOptions


class RecurrentOptions(SequenceOptions):
    """The `model` block of recommendation/gru4rec."""

    layers: int = Field(default=1, ge=1)
    """Recurrent layers, one on top of the other."""


class Gru4rec(SequenceModel):
    """GRU4Rec (Hidasi et al. 2016; with item vectors shared between input and output and a cross-entropy, Hidasi and
    Karatzoglou 2018): a gated recurrent network over the items of a history.

    It reads histories of any length in windows, as the other sequence models here do, where the paper carries the state
    of a session from batch to batch.
    """

    Options: ClassVar[type[RecurrentOptions]] = RecurrentOptions

    options: RecurrentOptions

    def make_layers(self) -> None:
        width, layers, dropout = self.options.width, self.options.layers, self.options.dropout
        self.recurrent = nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.norm = nn.LayerNorm(width)

    def encode(self, items: Tensor) -> Tensor:
        states = F.dropout(self.items(items), self.options.dropout, self.training)
        found, _ = self.recurrent(states)
        normal: Tensor = self.norm(F.dropout(found, self.options.dropout, self.training))
        return normal
