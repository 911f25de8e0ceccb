"""How does a small GPT compute the next token, with and without a cache of what it has read?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of a network.

    Args:
        vocabulary: kinds of tokens.
        length: tokens that it sees at once.
        width, layers, heads: of the states, the blocks, and of attention in each.
        dropout: of embeddings, attention and what blocks add.
        rotary: whether positions turn queries and keys (Su et al. 2021), else they have learned vectors.
    """

    vocabulary: int
    length: int
    width: int
    layers: int
    heads: int
    dropout: float
    rotary: bool


@dataclass(slots=True)
class Memory:
    """Keys and values of what was read, for each row up to its own length.

    Args:
        keys, values: [layers, rows, heads, length, width of a head].
        lengths: [rows] tokens read.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor

    def select(self, rows: Tensor) -> Memory:
        """The memory of these rows, in this order."""
        return Memory(self.keys[:, rows], self.values[:, rows], self.lengths[rows])


class Past(NamedTuple):
    """What one block has read: keys and values [rows, heads, length, width of a head], where the next token of each row
    is written (`at`, [rows]), and what it may see (`mask`, [rows, 1, 1, length])."""

    keys: Tensor
    values: Tensor
    at: Tensor
    mask: Tensor


class Attention(nn.Module):
    """Causal self-attention of several heads (Vaswani et al. 2017)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.dropout = sizes.heads, sizes.dropout
        self.inputs = nn.Linear(sizes.width, 3 * sizes.width)
        self.output = nn.Linear(sizes.width, sizes.width)

    def forward(
        self, states: Tensor, turn: tuple[Tensor, Tensor] | None, past: Past | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is added to states [rows, tokens, width], and their keys and values; with `past`, one token a row."""
        rows, tokens, width = states.shape
        query, key, value = self.inputs(states).view(rows, tokens, 3 * self.heads, -1).transpose(1, 2).chunk(3, dim=1)
        if turn is not None:
            query, key = rotated(query, turn), rotated(key, turn)
        if past is None:
            found = F.scaled_dot_product_attention(
                query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
            )
        else:
            each = torch.arange(rows, device=states.device)
            past.keys[each, :, past.at], past.values[each, :, past.at] = key[:, :, 0], value[:, :, 0]
            found = F.scaled_dot_product_attention(query, past.keys, past.values, attn_mask=past.mask)
        return self.output(found.transpose(1, 2).reshape(rows, tokens, width)), key, value


class Layer(nn.Module):
    """Attention and a feed-forward network, each added to what comes in, normalised before (pre-norm)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm_attention, self.attention = nn.LayerNorm(sizes.width), Attention(sizes)
        self.norm_feed, self.widen = nn.LayerNorm(sizes.width), nn.Linear(sizes.width, 4 * sizes.width)
        self.narrow, self.dropout = nn.Linear(4 * sizes.width, sizes.width), nn.Dropout(sizes.dropout)

    def forward(
        self, states: Tensor, turn: tuple[Tensor, Tensor] | None, past: Past | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States [rows, tokens, width] after this block, and attention's keys and values."""
        attended, key, value = self.attention(self.norm_attention(states), turn, past)
        states = states + self.dropout(attended)
        return states + self.dropout(self.narrow(F.gelu(self.widen(self.norm_feed(states))))), key, value


class Network(nn.Module):
    """A decoder-only transformer (Radford et al. 2019), as nanoGPT writes it: the output layer is the embedding."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = None if sizes.rotary else nn.Embedding(sizes.length, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            # what 2 * layers blocks add keeps the variance of one (GPT-2)
            adds = name.endswith(("attention.output.weight", "narrow.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * sizes.layers) if adds else 0.02)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [rows, tokens, vocabulary] of the token after each."""
        return self._logits(self._states(ids, torch.arange(ids.shape[1], device=ids.device))[0])

    def _states(self, ids: Tensor, at: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """States of tokens at positions [tokens], and the keys and values of each block."""
        states = self._embedded(ids, at)
        turn, read = self._turn(at), []
        for layer in self.layers:
            states, key, value = layer(states, turn, None)
            read.append((key, value))
        return states, read

    def _embedded(self, ids: Tensor, at: Tensor) -> Tensor:
        found = self.tokens(ids) if self.positions is None else self.tokens(ids) + self.positions(at)
        dropped: Tensor = self.dropout(found)
        return dropped

    def _turn(self, at: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines for each position, [..., half of a head]; None where positions have vectors."""
        if self.positions is not None:
            return None
        half = self.sizes.width // self.sizes.heads // 2
        speed = 10_000.0 ** (-torch.arange(half, device=at.device, dtype=torch.float32) / half)
        angles = at[..., None] * speed
        return angles.cos(), angles.sin()

    def _logits(self, states: Tensor) -> Tensor:
        return F.linear(self.norm(states), self.tokens.weight)

    # Generation

    def read(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Memory]:
        """Logits [rows, vocabulary] after the last token of each row, and the memory of all of them.

        Args:
            ids: [rows, longest], filled at the end.
            lengths: [rows] tokens of each.
        """
        rows, longest = ids.shape
        states, read = self._states(ids, torch.arange(longest, device=ids.device))
        room = (len(read), rows, self.sizes.heads, self.sizes.length, self.sizes.width // self.sizes.heads)
        keys, values = states.new_zeros(room), states.new_zeros(room)
        for number, (key, value) in enumerate(read):
            keys[number, :, :, :longest], values[number, :, :, :longest] = key, value
        last = states[torch.arange(rows, device=ids.device), lengths - 1]
        return self._logits(last), Memory(keys, values, lengths.clone())

    def read_on(self, ids: Tensor, memory: Memory) -> Tensor:
        """Logits [rows, vocabulary] after one more token in each row, which the memory then has too.

        Args:
            ids: [rows].
        """
        at = memory.lengths
        columns = torch.arange(memory.keys.shape[3], device=ids.device)
        mask = (columns <= at[:, None])[:, None, None]
        states, turn = self._embedded(ids[:, None], at[:, None]), self._turn(at[:, None, None])
        for number, layer in enumerate(self.layers):
            states, _, _ = layer(states, turn, Past(memory.keys[number], memory.values[number], at, mask))
        memory.lengths = at + 1
        return self._logits(states[:, 0])


def rotated(states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys [rows, heads, tokens, width] turned by their position: pairs of (first half, second half)."""
    cosine, sine = turn
    one, other = states.chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)
