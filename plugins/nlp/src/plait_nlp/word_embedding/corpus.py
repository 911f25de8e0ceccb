"""Which blocks of running words does an epoch visit, and which words are drawn beside them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from plait.errors import DataError
from plait.model import Batch, Key, Processor
from plait.randomness import uniforms
from plait.task import Split
from plait_nlp.word_embedding.words import Question, Sentences, counts_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive words of the training text: what an epoch visits one by one."""

    corpus: Corpus
    index: int


class Corpus(Sequence[Block]):
    """The known words of a split's sentences in one row of numbers. It draws nothing.

    Args:
        ids: [words], their numbers from 1.
        sentences: [words], the number of the sentence that each is of.
        size: words of a block.
    """

    in_memory = True

    def __init__(self, ids: npt.NDArray[np.int32], sentences: npt.NDArray[np.int32], size: int) -> None:
        self.ids, self.sentences, self.size = ids, sentences, size

    def __len__(self) -> int:
        return -(-len(self.ids) // self.size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [Block(self, each) for each in range(len(self))[index]]
        return Block(self, range(len(self))[index])

    def places(self, blocks: Ints, shift: Ints) -> Ints:
        """[blocks, size]: where the words of blocks are, each moved on by `shift`; -1 behind the last block's end."""
        first = blocks[:, None] * self.size + np.arange(self.size)
        return np.where(first < len(self.ids), (first + shift[:, None]) % max(1, len(self.ids)), -1)


class BlockProcessor(Processor):
    """The vocabulary, and how words are drawn from it. It knows no vector.

    Args:
        words: the most frequent first; their numbers begin at 1, and 0 fills rows.
        counts: how often each occurs in the training text.
        block: words that are handled together.
        window: words to each side at most; each word of a visit has its own reach, from 1 to this (as in word2vec).
        shared: words that are drawn against all words of a block.
        subsample: a word that is a larger share f of the text than this is left out of a visit with probability
            1 - sqrt(subsample / f) (Mikolov et al. 2013, equation 5); 0: none is.
    """

    def __init__(
        self, words: Sequence[str], counts: Sequence[int], *, block: int, window: int, shared: int, subsample: float
    ) -> None:
        self.words, self.counts = list(words), list(counts)
        self.block, self.window, self.shared, self.subsample = block, window, shared, subsample

    @classmethod
    def fit(
        cls, train: Split, *, min_count: int, most: int, block: int, window: int, shared: int, subsample: float
    ) -> Self:
        """Count the words of training documents.

        Raises:
            DataError: no two words are frequent enough.
        """
        words, counts = vocabulary(train, min_count=min_count, most=most)
        return cls(words, counts, block=block, window=window, shared=shared, subsample=subsample)

    @cached_property
    def _kept(self) -> npt.NDArray[np.float64]:
        """[words + 1], the probability that a word stays in a visit."""
        share = np.array([1, *self.counts], np.float64) / max(1, sum(self.counts))
        if not self.subsample:
            return np.ones_like(share)
        kept: npt.NDArray[np.float64] = np.minimum(1.0, np.sqrt(self.subsample / share))
        return kept

    @cached_property
    def _limits(self) -> npt.NDArray[np.float64]:
        """[words], cumulative: frequencies to the power 3/4, as negatives are drawn."""
        chance = np.array(self.counts, np.float64) ** 0.75
        limits: npt.NDArray[np.float64] = np.cumsum(chance) / chance.sum()
        return limits

    def units(self, train: Split) -> Split:
        return encoded(train, self.words, block=self.block)

    def collate(self, examples: Sequence[Block | Question], keys: Sequence[Key], *, training: bool) -> Batch:
        blocks = [each for each in examples if isinstance(each, Block)]
        if not blocks:
            return Batch({"empty": torch.zeros(len(examples), 0)}, 0, len(examples), {"questions": list(examples)})
        corpus, size = blocks[0].corpus, self.block
        draws = uniforms(keys, 2 * size + self.shared)
        places = corpus.places(np.array([each.index for each in blocks]), _shifts(keys, size))
        inside = places >= 0
        ids, sentences = corpus.ids[places].astype(np.int64), corpus.sentences[places].astype(np.int64)
        kept = inside & (draws[:, :size] < self._kept[np.where(inside, ids, 0)])
        reach = 1 + (draws[:, size : 2 * size] * self.window).astype(np.int64)
        order = np.argsort(~kept, axis=1, kind="stable")  # those that stay move together, and their windows widen
        width = max(1, int(kept.sum(1).max()))
        order = order[:, :width]
        ids, sentences, reach = (np.take_along_axis(each, order, 1) for each in (ids, sentences, reach))
        kept = np.take_along_axis(kept, order, 1)
        drawn = 1 + np.searchsorted(self._limits, draws[:, 2 * size :], side="right")
        tensors = {
            "ids": np.where(kept, ids, 0), "sentences": np.where(kept, sentences, -1),
            "reach": np.where(kept, reach, 0), "drawn": np.minimum(drawn, len(self.words)),
        }  # fmt: skip
        return Batch({name: torch.from_numpy(each) for name, each in tensors.items()}, int(kept.sum()), len(blocks))

    def as_json(self) -> dict[str, Any]:
        return {
            "words": self.words, "counts": self.counts, "block": self.block, "window": self.window,
            "shared": self.shared, "subsample": self.subsample,
        }  # fmt: skip

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(
            state["words"], state["counts"], block=state["block"], window=state["window"], shared=state["shared"],
            subsample=state["subsample"],
        )  # fmt: skip


def vocabulary(train: Split, *, min_count: int, most: int) -> tuple[list[str], list[int]]:
    """The words that occur often enough, the most frequent first (of equals by name), and how often.

    Raises:
        DataError: there are not two.
    """
    counts = counts_of([train[index] for index in range(len(train))])
    words = sorted(
        (word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word)
    )
    if len(words) < 2:
        raise DataError(
            f"{len(words)} of the {len(counts)} words of the {len(train)} training documents occur {min_count} times or"
            " more; vectors need two",
            hint="give more text, or set model.min_count=1",
        )
    return words[:most], [counts[word] for word in words[:most]]


def encoded(train: Split, words: Sequence[str], *, block: int) -> Corpus:
    """The known words of a split's documents as numbers from 1, with the numbers of their sentences."""
    numbers = {word: number for number, word in enumerate(words, start=1)}
    ids: list[int] = []
    lengths: list[int] = []
    for index in range(len(train)):
        document: Sentences = train[index]
        for row in document.words:
            known = [number for word in row if (number := numbers.get(word))]
            ids += known
            lengths.append(len(known))
    return Corpus(np.array(ids, np.int32), np.repeat(np.arange(len(lengths), dtype=np.int32), lengths), block)


def _shifts(keys: Sequence[Key], size: int) -> Ints:
    """[keys], how far blocks are moved on: as far for all of an epoch, so that each word is visited once, and no pair
    of words is parted by a block's end in every epoch."""
    epochs = {(key.seed, key.epoch) for key in keys}
    drawn = {each: int(uniforms([Key(*each, index=-1)], 1)[0, 0] * size) for each in epochs}
    return np.array([drawn[key.seed, key.epoch] for key in keys], np.int64)
