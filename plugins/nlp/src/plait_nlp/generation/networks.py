"""How do a GPT of ours, a network of transformers and n-gram counts give the next token of several rows?"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from plait_nlp.generation.continuation import Continuation, Logits
from plait_nlp.language_modelling.tokens import Packing

if TYPE_CHECKING:
    from plait_nlp.language_modelling.gpt import Memory, Network
    from plait_nlp.language_modelling.ngram import NgramModel

_HISTORY = 64  # symbols of a row that n-grams are asked with; more than any order


class _Tokenized(Continuation):
    """Rows of a tokenizer's tokens."""

    def __init__(self, packing: Packing, *, limit: int) -> None:
        self.packing, self.limit = packing, limit
        self.boundary = packing.boundary
        roles = (packing.tokenizer.id(role) for role in ("pad", "unk", "bos", "cls", "mask"))
        self.banned = tuple(sorted({each for each in roles if each is not None} - {self.boundary}))

    def encode(self, text: str) -> list[int]:
        return self.packing.tokenizer.encode([text], special=False)[0]

    def decode(self, tokens: Sequence[int]) -> str:
        return self.packing.tokenizer.decode(tokens)

    def _rows(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, list[int]]:
        """Tokens [rows, longest], filled at the end (or, where `left`, at the beginning), and how many each has."""
        sizes = [len(each) for each in rows]
        table = np.full((len(rows), max(sizes)), self.packing.tokenizer.pad, np.int64)
        for number, each in enumerate(rows):
            table[number, slice(-len(each), None) if left else slice(len(each))] = each
        return torch.from_numpy(table), sizes


class GptContinuation(_Tokenized):
    """nlp/gpt. Keys and values of what was read are kept, for each row up to its own length."""

    def __init__(self, network: Network, packing: Packing) -> None:
        super().__init__(packing, limit=network.sizes.length)
        self._network = network
        self._memory: Memory | None = None

    @property
    def _device(self) -> torch.device:
        return self._network.tokens.weight.device

    @torch.inference_mode()
    def begin(self, rows: Sequence[Sequence[int]]) -> Logits:
        self._network.eval()
        ids, sizes = self._rows(rows, left=False)
        lengths = torch.tensor(sizes, device=self._device)
        logits, self._memory = self._network.read(ids.to(self._device), lengths)
        return _array(logits)

    @torch.inference_mode()
    def extend(self, tokens: Sequence[int]) -> Logits:
        assert self._memory is not None  # `begin` comes first
        return _array(self._network.read_on(torch.tensor(list(tokens), device=self._device), self._memory))

    def select(self, rows: Sequence[int]) -> None:
        assert self._memory is not None  # `begin` comes first
        self._memory = self._memory.select(torch.tensor(list(rows), device=self._device))


class TransformersContinuation(_Tokenized):
    """A causal network of transformers, with the cache that it brings. Rows are filled at their beginning.

    Args:
        limit: tokens that it can read.
    """

    def __init__(self, network: Any, packing: Packing, *, limit: int) -> None:
        super().__init__(packing, limit=limit)
        self._network = network
        self._places = "position_ids" in signature(network.forward).parameters  # relative positions need none
        self._cache: Any = None
        self._mask = torch.zeros((0, 0), dtype=torch.int64)

    @torch.inference_mode()
    def begin(self, rows: Sequence[Sequence[int]]) -> Logits:
        self._network.eval()
        ids, sizes = self._rows(rows, left=True)
        longest = ids.shape[1]
        self._mask = torch.tensor([[0] * (longest - size) + [1] * size for size in sizes])
        self._cache = None
        return self._forward(ids, (self._mask.cumsum(1) - 1).clamp(min=0))

    @torch.inference_mode()
    def extend(self, tokens: Sequence[int]) -> Logits:
        at = self._mask.sum(1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(at)], dim=1)
        return self._forward(torch.tensor(list(tokens))[:, None], at)

    def _forward(self, ids: Tensor, positions: Tensor) -> Logits:
        device = next(self._network.parameters()).device
        placed = {"position_ids": positions.to(device)} if self._places else {}
        found = self._network(
            input_ids=ids.to(device), attention_mask=self._mask.to(device), past_key_values=self._cache, use_cache=True,
            **placed,
        )  # fmt: skip
        self._cache = found.past_key_values
        return _array(found.logits[:, -1])

    def select(self, rows: Sequence[int]) -> None:
        chosen = torch.tensor(list(rows))
        self._mask = self._mask[chosen]
        self._cache.batch_select_indices(chosen.to(next(self._network.parameters()).device))


class NgramContinuation(Continuation):
    """nlp/ngram. Its history is short, so that nothing need be kept."""

    limit = None
    boundary = None

    def __init__(self, model: NgramModel) -> None:
        assert model.counts is not None  # a model that is not fitted yet
        self._model, self._counts = model, model.counts
        self.banned = (len(model.alphabet),)
        self._rows: list[list[int]] = []

    def encode(self, text: str) -> list[int]:
        return [int(each) for each in self._model.numbers(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        codes = self._model.alphabet[np.asarray(tokens, np.int64)]
        if self._model.options.unit == "byte":
            return codes.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return "".join(map(chr, codes.tolist()))

    def begin(self, rows: Sequence[Sequence[int]]) -> Logits:
        self._rows = [list(each[-_HISTORY:]) for each in rows]
        return np.log(np.stack([self._counts.following(each) for each in self._rows]))

    def extend(self, tokens: Sequence[int]) -> Logits:
        return self.begin([[*row, token] for row, token in zip(self._rows, tokens, strict=True)])

    def select(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[each] for each in rows]


def _array(logits: Tensor) -> Logits:
    found: Logits = logits.double().cpu().numpy()
    return found
