"""How well does a small GPT, built from sizes, predict a text?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from plait.errors import RecipeError
from plait.model import Batch, Key, NeuralModel, Output, Processor
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.generation.continuation import Continuation
from plait_nlp.language_modelling.gpt import Network, Sizes
from plait_nlp.language_modelling.tokens import (
    Blocks,
    Packing,
    decode_scores,
    learned_tokenizer,
    score_batch,
)


class GptOptions(ModelOptions):
    """The `model` block of nlp/gpt."""

    tokenizer: Literal["char", "byte", "bpe"] = "char"
    """What tokens are: the characters of the training text, bytes, or byte-level BPE learned from it."""
    vocabulary: int = Field(default=4000, ge=300)
    """Tokens at most of bpe."""
    length: int = Field(default=128, ge=4)
    """Tokens that the network sees at once: of a training block, and of a window when judging."""
    width: int = Field(default=128, ge=4)
    """Of the states; a multiple of heads."""
    layers: int = Field(default=4, ge=1)
    """Blocks of attention and a feed-forward network."""
    heads: int = Field(default=4, ge=1)
    """Of attention."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of embeddings, attention and what blocks add; a text that is seen a few times needs none."""
    positions: Literal["rotary", "learned"] = "rotary"
    """How positions are told: by turning queries and keys (Su et al. 2021), or by vectors that are learned (GPT-2)."""
    shift: bool = True
    """Whether each epoch cuts the training blocks elsewhere."""


class GptProcessor(Processor):
    """A tokenizer, and how texts are cut for a network. It knows no weights.

    Args:
        packing: both.
        notes: what a reader must know.
    """

    def __init__(self, packing: Packing, notes: Sequence[str] = ()) -> None:
        self.packing, self.notes = packing, list(notes)

    def units(self, train: Split) -> Blocks:
        return self.packing.units(train)

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        return self.packing.collate(examples, keys, training=training)

    def as_json(self) -> dict[str, Any]:
        packing = self.packing
        return {"tokenizer": packing.tokenizer.as_json(), "length": packing.length, "shift": packing.shift}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        tokenizer = TextTokenizer.from_json(state["tokenizer"])
        return cls(Packing(tokenizer=tokenizer, length=state["length"], shift=state["shift"]))


class GptModel(NeuralModel):
    """A decoder-only transformer over characters, bytes or BPE. Random weights are where it starts."""

    Options: ClassVar[type[GptOptions]] = GptOptions
    ProcessorType: ClassVar[type[GptProcessor]] = GptProcessor

    options: GptOptions
    processor: GptProcessor

    def __init__(self, *, options: GptOptions, problem: Problem, processor: GptProcessor) -> None:
        super().__init__(options=options, problem=problem, processor=processor)
        self.notes = processor.notes
        if options.width % (2 * options.heads):
            raise RecipeError(f"model.width={options.width} is no multiple of twice model.heads={options.heads}")
        self.network = Network(
            Sizes(
                vocabulary=len(processor.packing.tokenizer), length=processor.packing.length, width=options.width,
                layers=options.layers, heads=options.heads, dropout=options.dropout,
                rotary=options.positions == "rotary",
            )
        )  # fmt: skip

    @classmethod
    def fit_processor(cls, *, options: GptOptions, problem: Problem, train: Split | None, seed: int) -> GptProcessor:
        tokenizer = learned_tokenizer(train, kind=options.tokenizer, size=options.vocabulary)
        packing = Packing(tokenizer=tokenizer, length=options.length, shift=options.shift)
        note = None if train is None else packing.shortage(train)
        return GptProcessor(packing, [note] if note else [])

    @classmethod
    def take_processor(
        cls, processor: Any, *, options: GptOptions, problem: Problem, train: Split | None
    ) -> GptProcessor:
        """The tokens of an earlier run, in blocks of this one's length."""
        if not isinstance(processor, GptProcessor):
            raise RecipeError("model.from: nlp/gpt needs a run of nlp/gpt, with its tokens")
        packing = Packing(tokenizer=processor.packing.tokenizer, length=options.length, shift=options.shift)
        note = None if train is None else packing.shortage(train)
        return GptProcessor(packing, [note] if note else [])

    @cached_property
    def _vocabulary(self) -> int:
        return self.network.sizes.vocabulary

    def forward(self, batch: Batch) -> Output:
        if not batch.size:  # the empty batch of an idle rank: the parameters take part all the same
            return Output(None, sum(each.sum() for each in self.parameters()) * batch["ids"].float().sum((1, 2)))
        return score_batch(self.network, batch, vocabulary=self._vocabulary)

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        return decode_scores(output, batch)

    def continuation(self) -> Continuation:
        """How generation asks for next tokens."""
        from plait_nlp.generation.networks import GptContinuation

        return GptContinuation(self.network, self.processor.packing)
