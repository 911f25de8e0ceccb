"""What does the self-attentive sequence model look like?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from plait_recommendation.sequence.network import SequenceModel, SequenceOptions


class AttentionOptions(SequenceOptions):
    """What the `model` blocks of the sequence networks with attention share."""

    blocks: int = Field(default=2, ge=1)
    """Layers of attention and feed-forward."""
    heads: int = Field(default=2, ge=1)
    """Heads of attention; they share the width."""

    @model_validator(mode="after")
    def _divides(self) -> AttentionOptions:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} is no multiple of heads={self.heads}")
        return self


class CausalOptions(AttentionOptions):
    """The recipe's `model` block of recommendation/sasrec."""

    positions: Literal["relative", "learned"] = "relative"
    """relative: each head learns how much an item counts by how many items ago it was; learned: a vector for each place
    of the window, as in the paper."""


class Block(nn.Module):
    """Attention over positions, then a feed-forward layer of the same width, each after its normalisation (pre-norm)
    and around a residual. It knows no order but by distance, where it has `reach`, and by what it is given.

    Args:
        width: of the vectors; heads: of the attention; dropout: of each branch.
        reach: distances that attention tells apart: a number for each, and each head, is added before the softmax (T5's
            relative positions, Raffel et al. 2020), at first ALiBi's (Press et al. 2022). None: it sees no distance.
    """

    def __init__(self, width: int, *, heads: int, dropout: float, reach: int | None = None) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed, self.back = nn.Linear(width, width), nn.Linear(width, width)
        for layer in (self.query_key_value, self.mix, self.feed, self.back):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.distances = None
        if reach is not None:
            slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
            self.distances = nn.Parameter(-torch.arange(reach)[:, None] * slopes)  # [distances, heads]

    def forward(self, states: Tensor, *, mask: Tensor | None) -> Tensor:
        """States [batch, positions, width] after the block.

        Args:
            mask: which positions may be looked at, bool [batch, 1, 1, positions]; None: each looks at itself and
                those before it, `reach` positions at most.
        """
        attended = F.dropout(self.mix(self._attend(self.attention_norm(states), mask)), self.dropout, self.training)
        states = states + attended
        fed = F.dropout(F.gelu(self.feed(self.feed_norm(states))), self.dropout, self.training)
        return states + F.dropout(self.back(fed), self.dropout, self.training)

    def _attend(self, states: Tensor, mask: Tensor | None) -> Tensor:
        batch, positions, width = states.shape
        parts = self.query_key_value(states).view(batch, positions, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if mask is None and self.distances is not None:
            mask = causal(self.distances, positions)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        return found.transpose(1, 2).reshape(batch, positions, width)


def causal(distances: Tensor, positions: int) -> Tensor:
    """What is added to the attention of one position to another, [heads, positions, positions]: by how far back it is,
    and minus infinity to what comes after.

    Args:
        distances: [reach, heads].
    """
    places = torch.arange(positions, device=distances.device)
    back = places[:, None] - places
    # an embedding's gradient is a sum in one order, that of an index is not
    biases = F.embedding(back.clamp(min=0), distances)
    return biases.masked_fill((back < 0)[:, :, None], -torch.inf).permute(2, 0, 1)


class Sasrec(SequenceModel):
    """SASRec (Kang and McAuley 2018): causal self-attention over the items of a history.

    With the cross-entropy over all items in place of the paper's single negative, which is what made it the strongest
    of its kind (Klenitskiy and Vasilev 2023), pre-norm, GELU, a bias for each item, and attention by distance in place
    of a vector for each place: what comes next hangs on the last few items, wherever a window begins. NDCG@10 on
    MovieLens-100k (leave-last-out, means of three seeds) is .109 with it after 32 epochs, .102 without it after 36.
    Rows are padded on the right, so that no position sees padding and attention needs no mask but the causal one.
    """

    Options: ClassVar[type[CausalOptions]] = CausalOptions

    options: CausalOptions

    def make_layers(self) -> None:
        options = self.options
        relative = options.positions == "relative"
        self.positions = None if relative else nn.Parameter(torch.randn(options.length, options.width) * 0.02)
        reach = options.length if relative else None
        self.blocks = nn.ModuleList(
            Block(options.width, heads=options.heads, dropout=options.dropout, reach=reach)
            for _ in range(options.blocks)
        )
        self.norm = nn.LayerNorm(options.width)

    def encode(self, items: Tensor) -> Tensor:
        states = self.items(items)
        if self.positions is not None:
            states = states + self.positions[: items.shape[1]]
        states = F.dropout(states, self.options.dropout, self.training)
        for block in self.blocks:
            states = block(states, mask=None)
        normal: Tensor = self.norm(states)
        return normal
