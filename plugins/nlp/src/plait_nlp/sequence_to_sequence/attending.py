"""How does a Transformer write a text for a text (Vaswani et al. 2017, with normalisation before each part)?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plait.errors import RecipeError
from plait_nlp.sequence_to_sequence.options import TransformerOptions
from plait_nlp.sequence_to_sequence.vectors import TokenVectors

Pair = tuple[Tensor, Tensor]


class MultiHead(nn.Module):
    """Attention with several heads. It knows no mask but the one it is given.

    Args:
        width: of states.
        heads: divide the width.
        dropout: of its weights, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def remember(self, states: Tensor) -> Pair:
        """Keys and values of states [batch, places, width]: [batch, heads, places, width / heads] each."""
        key, value = self.key_value(states).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(self, states: Tensor, remembered: Pair, mask: Tensor | None, *, causal: bool = False) -> Tensor:
        """[batch, tokens, width] of what states see.

        Args:
            mask: [batch, 1, 1, places], True where there is something to be seen; None: everywhere.
            causal: whether a token sees none after itself.
        """
        found = F.scaled_dot_product_attention(
            self._split(self.query(states)), *remembered, attn_mask=mask, is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0,
        )  # fmt: skip
        result: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return result

    def _split(self, states: Tensor) -> Tensor:
        batch, places, width = states.shape
        return states.view(batch, places, self.heads, width // self.heads).transpose(1, 2)


class Layer(nn.Module):
    """A layer of the encoder, or, with attention to an input, of the decoder."""

    def __init__(self, options: TransformerOptions, *, reads: bool) -> None:
        super().__init__()
        width = options.width
        self.own, self.own_norm = MultiHead(width, options.heads, options.dropout), nn.LayerNorm(width)
        if reads:
            self.other, self.other_norm = MultiHead(width, options.heads, options.dropout), nn.LayerNorm(width)
        self.inside, self.inside_norm = nn.Linear(width, options.intermediate), nn.LayerNorm(width)
        self.outside, self.dropout = nn.Linear(options.intermediate, width), nn.Dropout(options.dropout)

    def forward(
        self, states: Tensor, *, mask: Tensor | None = None, memory: Pair | None = None, past: Pair | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, Pair]:  # fmt: skip
        """States [batch, tokens, width], and the keys and values of all tokens so far.

        Args:
            mask: of the input's places.
            memory: keys and values of the input, for a decoder's layer.
            past: keys and values of the tokens before these.
        """
        normal = self.own_norm(states)
        seen = self.own.remember(normal)
        if past is not None:
            seen = torch.cat([past[0], seen[0]], dim=2), torch.cat([past[1], seen[1]], dim=2)
        states = states + self.dropout(self.own(normal, seen, None if memory else mask, causal=causal))
        if memory is not None:
            states = states + self.dropout(self.other(self.other_norm(states), memory, mask))
        inside = self.dropout(F.relu(self.inside(self.inside_norm(states))))
        return states + self.dropout(self.outside(inside)), seen


class TransformerNetwork(nn.Module):
    """Encoder and decoder with sinusoidal positions, so that no length is too long for it.

    Args:
        options: sizes.
        vocabulary: tokens.

    Raises:
        RecipeError: the width is no multiple of the heads, or odd.
    """

    def __init__(self, options: TransformerOptions, *, vocabulary: int) -> None:
        super().__init__()
        width = options.width
        if width % options.heads or width % 2:
            raise RecipeError(f"model.width={width} is odd, or no multiple of model.heads={options.heads}")
        self.width = width
        self.vectors = TokenVectors(vocabulary, width)
        self.readers: Any = nn.ModuleList(Layer(options, reads=False) for _ in range(options.layers))
        self.writers: Any = nn.ModuleList(Layer(options, reads=True) for _ in range(options.layers))
        self.read_norm, self.write_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(options.dropout)

    def read(self, source: Tensor, mask: Tensor) -> list[Pair]:
        """Keys and values of the input for each layer of the decoder."""
        states = self._embed(source, 0)
        for layer in self.readers:
            states, _ = layer(states, mask=mask[:, None, None])
        states = self.read_norm(states)
        return [layer.other.remember(states) for layer in self.writers]

    def write(
        self, written: Tensor, memory: list[Pair], mask: Tensor, past: list[Pair] | None = None
    ) -> tuple[Tensor, list[Pair]]:
        """Output vectors [batch, tokens, width] after tokens [batch, tokens], and what to remember of them."""
        states = self._embed(written, 0 if past is None else past[0][0].shape[2])
        remembered = []
        for number, layer in enumerate(self.writers):
            states, seen = layer(
                states, mask=mask[:, None, None], memory=memory[number], past=None if past is None else past[number],
                causal=past is None,
            )  # fmt: skip
            remembered.append(seen)
        return self.dropout(self.write_norm(states)), remembered

    def forward(self, source: Tensor, mask: Tensor, written: Tensor) -> Tensor:
        """Output vectors [batch, tokens, width] for a target that is known."""
        return self.write(written, self.read(source, mask), mask)[0]

    def steps(self, source: Tensor, mask: Tensor) -> TransformerSteps:
        """The decoder at work on inputs."""
        return TransformerSteps(self, source, mask)

    def _embed(self, tokens: Tensor, first: int) -> Tensor:
        width = self.width
        places = torch.arange(first, first + tokens.shape[1], device=tokens.device, dtype=torch.float32)
        rates = torch.exp(torch.arange(0, width, 2, device=tokens.device) * (-math.log(10_000.0) / width))
        angles = places[:, None] * rates
        positions = torch.cat([angles.sin(), angles.cos()], dim=1)
        found: Tensor = self.dropout(self.vectors(tokens) * math.sqrt(width) + positions)
        return found


class TransformerSteps:
    """`search.Steps` of a `TransformerNetwork`: keys and values of what is written are kept."""

    def __init__(self, network: TransformerNetwork, source: Tensor, mask: Tensor) -> None:
        self._network, self._mask = network, mask
        self._memory = network.read(source, mask)
        self._past: list[Pair] | None = None

    def next(self, tokens: Tensor) -> Tensor:
        vectors, self._past = self._network.write(tokens[:, None], self._memory, self._mask, self._past)
        found: Tensor = self._network.vectors(vectors[:, 0]).float().log_softmax(-1)
        return found

    def select(self, rows: Tensor) -> None:
        self._mask = self._mask[rows]
        self._memory = [(key[rows], value[rows]) for key, value in self._memory]
        if self._past is not None:
            self._past = [(key[rows], value[rows]) for key, value in self._past]
