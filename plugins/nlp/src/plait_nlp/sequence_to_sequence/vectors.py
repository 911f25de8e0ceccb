"""How do tokens become vectors, and vectors tokens, with the same numbers?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TokenVectors(nn.Module):
    """Vectors of tokens for reading, writing and the output (Press and Wolf 2017). It owns its weights and is always
    called as a module, so that weights that are sharded over processes are gathered for it.

    Args:
        vocabulary: tokens.
        width: of vectors.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, given: Tensor) -> Tensor:
        """Vectors [..., width] of tokens [...], whole numbers; or logits [..., vocabulary] of vectors."""
        if given.is_floating_point():
            return F.linear(given, self.weight, self.bias)
        return F.embedding(given, self.weight)
