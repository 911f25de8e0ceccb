"""Which vectors tell the words around a word, or a word from those around it (Mikolov et al. 2013)?"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from plait.errors import RecipeError
from plait.model import Batch, NeuralModel, Output
from plait.options import AFTERWARDS, ModelOptions
from plait.task import Problem, Split
from plait_nlp.word_embedding.corpus import BlockProcessor
from plait_nlp.word_embedding.vectors import Said, WordVectors


class Word2VecOptions(ModelOptions):
    """The `model` block of nlp/word2vec."""

    kind: Literal["skip-gram", "cbow"] = "skip-gram"
    """Each word tells each of those around it; or the mean of those around it tells the word, which is quicker."""
    width: int = Field(default=100, ge=1)
    """Of the vectors."""
    window: int = Field(default=5, ge=1)
    """Words to each side at most, within a sentence; each visit of a word draws its own reach from 1 to this."""
    negatives: int = Field(default=5, ge=1)
    """Random words that stand against each true one."""
    shared: int = Field(default=64, ge=1)
    """Random words that are drawn for each block of text, against all its words: each counts for negatives / shared of
    one (Ji et al. 2016). A product of matrices then, not a look-up for each pair."""
    min_count: int = Field(default=5, ge=1)
    """Words that occur less often get no vector."""
    vocabulary: int = Field(default=50_000, ge=2)
    """Words at most: a step costs time for all of them."""
    subsample: float = Field(default=1e-3, ge=0)
    """Words that are a larger share of the text are left out of most visits; 0: never."""
    block: int = Field(default=64, ge=8)
    """Words of running text that are handled together, across sentences; windows do not cross a block's ends, which
    differ in each epoch."""
    top: int = Field(default=10, ge=1, le=1000, json_schema_extra=AFTERWARDS)
    """How many neighbours are shown."""


class Word2Vec(NeuralModel):
    """Two vectors a word, as a centre and as a neighbour, whose product is large where the words stand together and
    small for random words. Those of centres are what is kept. It knows no sentence and no file.

    The loss of a batch is that of word2vec: for each pair softplus(-s) and `negatives` times the mean of softplus(s)
    over drawn words other than the pair's own; the sum over pairs, by the number of words. An `Output` has no logits.
    """

    Options: ClassVar[type[Word2VecOptions]] = Word2VecOptions
    ProcessorType: ClassVar[type[BlockProcessor]] = BlockProcessor

    options: Word2VecOptions
    processor: BlockProcessor

    def __init__(self, *, options: Word2VecOptions, problem: Problem, processor: BlockProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        size = len(processor.words) + 1
        self.centres = nn.Embedding(size, options.width)
        self.neighbours = nn.Embedding(size, options.width)
        nn.init.uniform_(self.centres.weight, -0.5 / options.width, 0.5 / options.width)
        nn.init.zeros_(self.neighbours.weight)

    @classmethod
    def fit_processor(
        cls, *, options: Word2VecOptions, problem: Problem, train: Split | None, seed: int
    ) -> BlockProcessor:
        if train is None:
            raise RecipeError("nlp/word2vec needs training text")
        return BlockProcessor.fit(
            train, min_count=options.min_count, most=options.vocabulary, block=options.block, window=options.window,
            shared=options.shared, subsample=options.subsample,
        )  # fmt: skip

    def forward(self, batch: Batch) -> Output:
        """Of blocks ids, sentences and reach [batch, words] and drawn [batch, shared]; of questions nothing."""
        nothing = self.centres.weight[:0, :1]
        if batch.get("ids") is None:
            return Output(None, nothing)
        ids, drawn = batch["ids"], batch["drawn"]
        pairs = self._pairs(batch["sentences"], batch["reach"])
        centres, neighbours, others = self.centres(ids), self.neighbours(ids), self.neighbours(drawn)
        same = (ids[:, :, None] == drawn[:, None, :]).to(centres.dtype)
        if self.options.kind == "skip-gram":
            found = centres @ neighbours.transpose(1, 2)
            true = (F.softplus(-found) * pairs).sum()
            against = centres @ others.transpose(1, 2)
            # each drawn word stands against all pairs of a centre, but those whose neighbour it is itself
            weights = pairs.sum(2, keepdim=True) - pairs @ same
        else:
            counts = pairs.sum(2, keepdim=True)
            around = (pairs @ centres) / counts.clamp(min=1)
            true = (F.softplus(-(around * neighbours).sum(2, keepdim=True)) * (counts > 0)).sum()
            against = around @ others.transpose(1, 2)
            weights = (counts > 0) * (1 - same)
        false = (F.softplus(against) * weights).sum() * (self.options.negatives / drawn.shape[1])
        return Output((true + false) / max(1, batch.count), nothing)

    def _pairs(self, sentences: Tensor, reach: Tensor) -> Tensor:
        """[batch, words, words], 1 where the second word is in the first one's window, and in its sentence."""
        place = torch.arange(sentences.shape[1], device=sentences.device)
        apart = (place[:, None] - place[None, :]).abs()
        near = (apart[None] <= reach[:, :, None]) & (apart[None] > 0)
        return (near & (sentences[:, :, None] == sentences[:, None, :])).to(self.centres.weight.dtype)

    @property
    def vectors(self) -> WordVectors:
        """The vectors of the words, for use elsewhere: `vectors.write("vectors.txt")`."""
        centres, neighbours = (
            each.weight.detach()[1:].float().cpu().numpy() for each in (self.centres, self.neighbours)
        )
        # a word is told as a centre by its neighbours; CBOW tells it as a neighbour by centres
        together = (centres, neighbours) if self.options.kind == "skip-gram" else (neighbours, centres)
        return WordVectors(self.processor.words, centres, together)

    def decode(self, output: Output, batch: Batch) -> list[Said]:
        questions: list[Any] = batch.extra.get("questions", [])
        return self.vectors.answer(questions, top=self.options.top) if questions else []
