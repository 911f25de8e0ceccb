"""How well does the mean of a text's word and word-pair vectors tell its target (fastText, Joulin et al. 2017)?"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from plait.model import Batch, Key, NeuralModel, Output, Processor
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_nlp.architectures.heads import pad_rows
from plait_nlp.examples import TextExample
from plait_nlp.text_classification.head import ClassificationHead, decode_logits, loss_of
from plait_nlp.text_classification.ngrams import words_of

_LONGEST = 2000  # words of a text that are looked at


class BagOptions(ModelOptions):
    """The `model` block of nlp/bag-of-embeddings."""

    width: int = Field(default=64, ge=1)
    """Of the vectors."""
    vocabulary: int = Field(default=20_000, ge=1)
    """Words at most: the most frequent ones, each with a vector of its own."""
    buckets: int = Field(default=16_384, ge=0)
    """Vectors that pairs of neighbouring words, and words beyond the vocabulary, share by a hash; 0: none."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Of the mean vector."""
    lowercase: bool = True
    """Whether case is dropped."""


class BagProcessor(Processor):
    """Numbers of words and of pairs of words. It knows no vector.

    Args:
        words: with a number each, from 1; 0 fills rows.
        problem: the task's, for targets.
    """

    def __init__(self, words: Sequence[str], problem: Problem, *, buckets: int, lowercase: bool) -> None:
        self.words, self.problem = list(words), problem
        self.buckets, self.lowercase = buckets, lowercase
        self._numbers = {word: number for number, word in enumerate(self.words, start=1)}

    def lengths(self, examples: Split) -> Sequence[int]:
        return [examples[index].size for index in range(len(examples))]

    def collate(self, examples: Sequence[TextExample], keys: Sequence[Key], *, training: bool) -> Batch:
        tensors = {"ids": torch.from_numpy(pad_rows([self.ids(each.text) for each in examples], 0))}
        if self.problem["pairs"]:
            tensors["pair_ids"] = torch.from_numpy(pad_rows([self.ids(each.pair or "") for each in examples], 0))
        if all(each.label is not None for each in examples):
            tensors["target"] = ClassificationHead.targets(examples, self.problem)
        return Batch(tensors, len(examples) if "target" in tensors else 0, len(examples))

    def ids(self, text: str) -> list[int]:
        """The numbers of a text's words, and of its pairs of words."""
        words = split_words(text, self.lowercase)
        found = [number for word in words if (number := self._numbers.get(word) or self._bucket(word))]
        if self.buckets:
            found += [self._bucket(f"{one} {other}") for one, other in pairwise(words)]
        return found

    def _bucket(self, text: str) -> int:
        if not self.buckets:
            return 0
        return 1 + len(self.words) + zlib.crc32(text.encode("utf-8", "surrogatepass")) % self.buckets

    def as_json(self) -> dict[str, Any]:
        return {
            "words": self.words,
            "problem": dict(self.problem),
            "buckets": self.buckets,
            "lowercase": self.lowercase,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["words"], state["problem"], buckets=state["buckets"], lowercase=state["lowercase"])


class BagOfEmbeddings(NeuralModel):
    """The mean vector of words and word pairs, and a linear layer.

    Of a pair of texts it sees both means, their distances and their products.
    """

    Options: ClassVar[type[BagOptions]] = BagOptions
    ProcessorType: ClassVar[type[BagProcessor]] = BagProcessor
    ahead: ClassVar[int] = 32

    options: BagOptions
    processor: BagProcessor

    def __init__(self, *, options: BagOptions, problem: Problem, processor: BagProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        size = 1 + len(processor.words) + processor.buckets
        self.vectors = nn.Embedding(size, options.width, padding_idx=0)
        nn.init.normal_(self.vectors.weight, std=0.1)  # N(0, 1) learns 8 points less of SST-2 in five epochs
        with torch.no_grad():
            self.vectors.weight[0] = 0
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(options.width * (4 if problem["pairs"] else 1), len(problem.get("labels", ["value"])))

    @classmethod
    def fit_processor(cls, *, options: BagOptions, problem: Problem, train: Split | None, seed: int) -> BagProcessor:
        counts: Counter[str] = Counter()
        for index in range(len(train) if train is not None else 0):
            example = train[index]  # type: ignore[index]  # there is none only where there is no train
            for text in (example.text, example.pair or ""):
                counts.update(split_words(text, options.lowercase))
        words = sorted(counts, key=lambda word: (-counts[word], word))[: options.vocabulary]
        return BagProcessor(words, problem, buckets=options.buckets, lowercase=options.lowercase)

    def forward(self, batch: Batch) -> Output:
        mean = self._mean(batch["ids"])
        if self.problem["pairs"]:
            other = self._mean(batch["pair_ids"])
            mean = torch.cat([mean, other, (mean - other).abs(), mean * other], dim=1)
        logits = self.output(self.dropout(mean))
        target = batch.get("target")
        known = target is not None and batch.size > 0
        return Output(loss_of(logits, target, self.problem["target"]) if known and target is not None else None, logits)

    def _mean(self, ids: Tensor) -> Tensor:
        found: Tensor = self.vectors(ids).sum(1) / (ids > 0).sum(1, keepdim=True).clamp(min=1)
        return found

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        return decode_logits(output.logits, self.problem)


def split_words(text: str, lowercase: bool) -> list[str]:
    """The words that are looked at."""
    return words_of(text.lower() if lowercase else text)[:_LONGEST]
