"""How do recurrent networks with attention write a text for a text (Luong et al. 2015, Bahdanau et al. 2015)?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from plait_nlp.sequence_to_sequence.options import GruOptions
from plait_nlp.sequence_to_sequence.vectors import TokenVectors


class Attention(nn.Module):
    """Where in the input a state looks, and what it sees there.

    Args:
        width: of states and of the input's places.
        kind: how a place is weighed: "general" (a product), or "additive" (a small network).
    """

    def __init__(self, width: int, kind: Literal["general", "additive"]) -> None:
        super().__init__()
        self.kind = kind
        self.keys = nn.Linear(width, width, bias=False)
        if kind == "additive":
            self.queries = nn.Linear(width, width)
            self.weigh = nn.Linear(width, 1, bias=False)
        self.scale = width**-0.5

    def forward(self, states: Tensor, memory: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """[batch, tokens, width] of what is seen by states [batch, tokens, width].

        Args:
            memory: [batch, places, width].
            keys: `self.keys(memory)`.
            mask: [batch, places], True where there is a place.
        """
        if self.kind == "general":
            scores = torch.bmm(states, keys.transpose(1, 2)) * self.scale
        else:
            scores = self.weigh(torch.tanh(self.queries(states)[:, :, None] + keys[:, None])).squeeze(-1)
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(dim=-1)
        return torch.bmm(weights, memory)


class GruNetwork(nn.Module):
    """A bidirectional GRU reads; two GRUs write, with attention between them: the lower one's states look at the input,
    and the upper one hears what they see. So no step needs the attention of the step before, and a whole target is one
    call of each GRU (the arrangement of Wu et al. 2016), which is what makes it quick on a processor.

    Args:
        options: sizes.
        vocabulary: tokens.
    """

    def __init__(self, options: GruOptions, *, vocabulary: int) -> None:
        super().__init__()
        width = options.width
        self.vectors = TokenVectors(vocabulary, width)
        self.scale = width**0.5  # they are small for the output's sake; inputs of variance one learn twice as fast
        between = options.dropout if options.layers > 1 else 0.0
        half = (width + 1) // 2
        self.reader = nn.GRU(width, half, options.layers, batch_first=True, bidirectional=True, dropout=between)
        self.memory = nn.Linear(2 * half, width)
        self.begin = nn.Linear(width, 2 * width)
        self.lower = nn.GRU(width, width, batch_first=True)
        self.attention = Attention(width, options.attention)
        self.upper = nn.GRU(2 * width, width, batch_first=True)
        self.output = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(options.dropout)

    def read(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the input is remembered as [batch, places, width], its keys, and the first states [2, batch, width]."""
        packed = pack_padded_sequence(
            self.dropout(self.vectors(source) * self.scale), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.reader(packed)[0], batch_first=True, total_length=source.shape[1])
        memory = self.dropout(self.memory(states))
        mean = (memory * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        first = torch.stack(torch.tanh(self.begin(mean)).chunk(2, dim=1))
        return memory, self.attention.keys(memory), first

    def write(
        self, written: Tensor, memory: Tensor, keys: Tensor, mask: Tensor, states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What output vectors [batch, tokens, width] follow tokens [batch, tokens], and the states after them."""
        low, first = self.lower(self.dropout(self.vectors(written) * self.scale), states[:1].contiguous())
        seen = self.attention(low, memory, keys, mask)
        high, second = self.upper(self.dropout(torch.cat([low, seen], dim=2)), states[1:].contiguous())
        return self.dropout(torch.tanh(self.output(torch.cat([high, seen], dim=2)))), torch.cat([first, second])

    def forward(self, source: Tensor, mask: Tensor, written: Tensor) -> Tensor:
        """Output vectors [batch, tokens, width] for a target that is known."""
        memory, keys, states = self.read(source, mask)
        return self.write(written, memory, keys, mask, states)[0]

    def steps(self, source: Tensor, mask: Tensor) -> GruSteps:
        """The decoder at work on inputs."""
        return GruSteps(self, source, mask)


class GruSteps:
    """`search.Steps` of a `GruNetwork`."""

    def __init__(self, network: GruNetwork, source: Tensor, mask: Tensor) -> None:
        self._network, self._mask = network, mask
        self._memory, self._keys, self._states = network.read(source, mask)

    def next(self, tokens: Tensor) -> Tensor:
        vectors, self._states = self._network.write(tokens[:, None], self._memory, self._keys, self._mask, self._states)
        found: Tensor = self._network.vectors(vectors[:, 0]).float().log_softmax(-1)
        return found

    def select(self, rows: Tensor) -> None:
        self._memory, self._keys, self._mask = self._memory[rows], self._keys[rows], self._mask[rows]
        self._states = self._states[:, rows]
