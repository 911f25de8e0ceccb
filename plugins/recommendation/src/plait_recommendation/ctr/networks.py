"""Which functions of a pair's column vectors say how probable a click is?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from plait.model import Batch
from plait_recommendation.ctr.embedding import ColumnEmbedding
from plait_recommendation.ctr.encoding import PairEncoder

DEVIATION = 0.05
"""Of initial vectors. At 0.01 products of three values start at 1e-6, and an interaction of order 3 is found late."""


class Linear(nn.Module):
    """Logistic regression: a weight for each value, the mean of a bag's weights, a slope for each number, a bias."""

    def __init__(self, encoder: PairEncoder) -> None:
        super().__init__()
        self.weights = ColumnEmbedding(encoder, 1, deviation=0.0)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        """Log odds [batch]."""
        total: Tensor = self.weights(batch).sum(dim=(1, 2)) + self.bias
        return total


class FactorizationMachine(nn.Module):
    """The linear part, and a product of two vectors for each pair of columns (Rendle 2010, equation 1)."""

    def __init__(self, encoder: PairEncoder, *, dimension: int, dropout: float) -> None:
        super().__init__()
        self.linear = Linear(encoder)
        self.vectors = ColumnEmbedding(encoder, dimension, deviation=DEVIATION)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Log odds [batch]."""
        logits: Tensor = self.linear(batch) + second_order(self.dropout(self.vectors(batch)))
        return logits


def second_order(vectors: Tensor) -> Tensor:
    """The sum of the products of all pairs of columns, [batch] of [batch, columns, dimension], in linear time
    (Rendle 2010, lemma 3.1)."""
    return 0.5 * (vectors.sum(dim=1).square() - vectors.square().sum(dim=1)).sum(dim=1)


class DeepFm(nn.Module):
    """A factorization machine and a perceptron on the same vectors (Guo et al. 2017, equation 1)."""

    def __init__(self, encoder: PairEncoder, *, dimension: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.linear = Linear(encoder)
        self.vectors = ColumnEmbedding(encoder, dimension, deviation=DEVIATION)
        self.dropout = nn.Dropout(dropout)
        self.deep = perceptron(self.vectors.columns * dimension, hidden, dropout=dropout)
        self.head = nn.Linear(_last(self.vectors.columns * dimension, hidden), 1)

    def forward(self, batch: Batch) -> Tensor:
        """Log odds [batch]."""
        vectors = self.dropout(self.vectors(batch))
        deep = self.head(self.deep(vectors.flatten(1))).squeeze(1)
        logits: Tensor = self.linear(batch) + second_order(vectors) + deep
        return logits


class CrossNetwork(nn.Module):
    """Layers x' = x0 * (W x + b) + x (Wang et al. 2021, equation 1): each raises the order of interactions by one.

    Args:
        rank: W = U V of this rank (section 3.2); None: a full matrix.
    """

    def __init__(self, width: int, *, layers: int, rank: int | None) -> None:
        super().__init__()

        def layer() -> nn.Module:
            if rank is None:
                return nn.Linear(width, width)
            return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

        self.layers = nn.ModuleList(layer() for _ in range(layers))

    def forward(self, start: Tensor) -> Tensor:
        """[batch, width] of [batch, width]."""
        crossed = start
        for layer in self.layers:
            crossed = start * layer(crossed) + crossed
        return crossed


class DeepCross(nn.Module):
    """A cross network and a perceptron, one after the other or side by side (Wang et al. 2021, figure 1)."""

    def __init__(
        self, encoder: PairEncoder, *, dimension: int, layers: int, rank: int | None, hidden: Sequence[int],
        stacked: bool, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.vectors = ColumnEmbedding(encoder, dimension, deviation=DEVIATION)
        self.dropout = nn.Dropout(dropout)
        width = self.vectors.columns * dimension
        self.cross = CrossNetwork(width, layers=layers, rank=rank)
        self.deep = perceptron(width, hidden, dropout=dropout)
        self.stacked = stacked
        self.head = nn.Linear(_last(width, hidden) + (0 if stacked else width), 1)

    def forward(self, batch: Batch) -> Tensor:
        """Log odds [batch]."""
        start = self.dropout(self.vectors(batch)).flatten(1)
        crossed = self.cross(start)
        last = self.deep(crossed) if self.stacked else torch.cat([crossed, self.deep(start)], dim=1)
        logits: Tensor = self.head(last).squeeze(1)
        return logits


class Dlrm(nn.Module):
    """Numbers through a perceptron to one vector, products of all pairs of vectors, a perceptron on these and on the
    numbers' vector (Naumov et al. 2019, section 2)."""

    def __init__(
        self, encoder: PairEncoder, *, dimension: int, bottom: Sequence[int], hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.vectors = ColumnEmbedding(encoder, dimension, deviation=DEVIATION, numbers=False)
        self.dropout = nn.Dropout(dropout)
        self.bottom = None
        columns = self.vectors.columns
        if encoder.numbers:
            # a number that is missing is no number: the network sees its mean, and that it was missing
            self.bottom = perceptron(2 * encoder.numbers, (*bottom, dimension), dropout=0.0)
            columns += 1
        pairs = list(combinations(range(columns), 2))
        self.register_buffer("pairs", torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T, persistent=False)
        self.pairs: Tensor
        width = len(pairs) + columns * dimension
        self.top = perceptron(width, hidden, dropout=dropout)
        self.head = nn.Linear(_last(width, hidden), 1)
        self.register_buffer("missing", _missing_rows(encoder), persistent=False)
        self.missing: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """Log odds [batch]."""
        vectors = self.dropout(self.vectors(batch))  # [batch, columns, dimension]
        if self.bottom is not None:
            missing = (batch["numbers"] == self.missing).to(vectors.dtype)
            numbers = torch.cat([batch["weights"] * (1 - missing), missing], dim=1)
            vectors = torch.cat([vectors, self.bottom(numbers).unsqueeze(1)], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        logits: Tensor = self.head(self.top(torch.cat([products, vectors.flatten(1)], dim=1))).squeeze(1)
        return logits


def perceptron(width: int, hidden: Sequence[int], *, dropout: float) -> nn.Sequential:
    """Linear layers with ReLU and dropout after each; none is the identity."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((width, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def _last(width: int, hidden: Sequence[int]) -> int:
    return hidden[-1] if hidden else width


def _missing_rows(encoder: PairEncoder) -> Tensor:
    """The row that says "missing" of each number, in the order of the batch's columns."""
    ordered = [field for source in ("user", "item", "pair") for field in encoder.fields if field.source == source]
    return torch.tensor([field.base for field in ordered if field.is_number], dtype=torch.int32)
