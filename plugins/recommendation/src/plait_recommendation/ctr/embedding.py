"""How do a batch's columns become vectors?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plait.model import Batch
from plait_recommendation.ctr.encoding import PairEncoder


class ColumnEmbedding(nn.Module):
    """One vector a column: the value's row, the mean of a bag's rows, or a number's row times the number.

    All columns share one plain `nn.Embedding`, one look-up a batch. It knows no label.

    Args:
        encoder: says how many rows and columns there are.
        dimension: of a vector.
        deviation: of the initial values.
        numbers: whether numbers are columns, too; else a network reads them from the batch.
    """

    def __init__(self, encoder: PairEncoder, dimension: int, *, deviation: float, numbers: bool = True) -> None:
        super().__init__()
        self.table = nn.Embedding(encoder.size, dimension, padding_idx=0)
        nn.init.normal_(self.table.weight, std=deviation)
        with torch.no_grad():
            self.table.weight[0].zero_()
        self.numbers = encoder.numbers if numbers else 0
        self.columns = encoder.categories + self.numbers + encoder.bags

    def forward(self, batch: Batch) -> Tensor:
        """Vectors [batch, columns, dimension]."""
        parts = [batch["fields"]]
        if self.numbers:
            parts.append(batch["numbers"])
        bags = batch["bags"]  # [batch, bags, values]
        size, kinds, values = bags.shape
        rows = torch.cat([*parts, bags.reshape(size, kinds * values)], dim=1)
        vectors = self.table(rows)
        single = rows.shape[1] - kinds * values
        found = [vectors[:, : single - self.numbers]]
        if self.numbers:
            found.append(vectors[:, single - self.numbers : single] * batch["weights"].unsqueeze(2))
        if kinds:
            total = vectors[:, single:].unflatten(1, (kinds, values)).sum(dim=2)  # padding is a row of zeros
            found.append(total / (bags > 0).sum(dim=2, keepdim=True).clamp_min(1))
        return torch.cat(found, dim=1)
