"""How do characters and bytes become tokens in one look-up, where a tokenizer would take each on its own?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import models

from plait_nlp.architectures.tokenizers import TextTokenizer

Encode = Callable[[Sequence[str]], Sequence[Sequence[int] | npt.NDArray[np.uint32]]]


def encoder_of(tokenizer: TextTokenizer) -> Encode:
    """What makes token numbers of texts, without special tokens around them: the tokenizer, or what is quicker."""
    kind = type(tokenizer.tokenizer.model)
    if tokenizer.tokenizer.normalizer is None and kind is models.WordLevel:
        return _Characters(tokenizer)
    if (
        tokenizer.tokenizer.normalizer is None
        and kind is models.BPE
        and len(tokenizer) - len(tokenizer.specials) == 256
    ):
        return _Bytes(tokenizer)
    return lambda texts: tokenizer.encode(texts, special=False)


class _Characters:
    """A number for each code point."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        known = {ord(each): number for each, number in tokenizer.tokenizer.get_vocab().items() if len(each) == 1}
        self._table = np.full(max(known, default=0) + 2, tokenizer.id("unk") or 0, np.uint32)
        self._table[list(known)] = list(known.values())

    def __call__(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        codes = (np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32) for text in texts)
        return [self._table[np.minimum(each, len(self._table) - 1)] for each in codes]


class _Bytes:
    """A number for each byte that UTF-8 can have."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        points: list[Any] = [*range(0x800), *range(0x800, 0xD800, 0x400), *range(0xE000, 0x110000, 0x1000)]
        text = "".join(map(chr, points))  # every first byte, and every other one
        self._table = np.zeros(256, np.uint32)
        self._table[np.frombuffer(text.encode("utf-8"), np.uint8)] = tokenizer.encode([text], special=False)[0]

    def __call__(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        return [self._table[np.frombuffer(text.encode("utf-8", "replace"), np.uint8)] for text in texts]
