"""What does the bidirectional sequence model look like?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from plait.task import Problem, Split
from plait_recommendation.sequence.network import SequenceModel
from plait_recommendation.sequence.processor import SequenceProcessor
from plait_recommendation.sequence.sasrec import AttentionOptions, Block


class MaskedOptions(AttentionOptions):
    """The `model` block of recommendation/bert4rec."""

    masked: float = Field(default=0.3, gt=0, lt=1)
    """Part of a window's items that is masked and to be told, in training."""


class Bert4rec(SequenceModel):
    """BERT4Rec (Sun et al. 2019): attention in both directions tells masked items of a history; a mask after the last
    one asks for the next.

    A window has `length` positions, one of which is the mask's in prediction. A masked item is replaced by the mask
    always, as in the paper, and a window in which chance masks none masks its last item.
    """

    Options: ClassVar[type[MaskedOptions]] = MaskedOptions
    objective = "masked"

    options: MaskedOptions

    @classmethod
    def fit_processor(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> SequenceProcessor:
        made = super().fit_processor(options=options, problem=problem, train=train, seed=seed)
        return replace(made, masked=options.masked)

    def make_layers(self) -> None:
        options = self.options
        self.positions = nn.Parameter(torch.randn(options.length, options.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(options.width, heads=options.heads, dropout=options.dropout) for _ in range(options.blocks)
        )
        self.norm = nn.LayerNorm(options.width)

    def encode(self, items: Tensor) -> Tensor:
        there = (items != self.processor.padding)[:, None, None]
        # positions count from the end, where the question is: the newest item is as near in any history
        places = (items != self.processor.padding).sum(dim=1, keepdim=True) - 1
        backwards = (places - torch.arange(items.shape[1], device=items.device)).clamp(min=0)
        states = F.dropout(self.items(items) + self.positions[backwards], self.options.dropout, self.training)
        for block in self.blocks:
            states = block(states, mask=there)
        normal: Tensor = self.norm(states)
        return normal
