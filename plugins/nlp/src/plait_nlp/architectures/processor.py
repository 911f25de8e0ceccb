"""What must a network of transformers know before it sees a text: tokenizer, config, the task's head?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from plait.model import Batch, Key, Processor
from plait.task import Problem, Split
from plait_nlp.architectures.heads import Head, Inputs, head_for
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.architectures.tokenizers import TextTokenizer


class TextProcessor(Processor):
    """A tokenizer, a network's config, and the head that makes batches with them. It knows no weights.

    Args:
        tokenizer: fitted, or from a directory.
        config: of the network, as transformers writes it to config.json.
        problem, options: the task's and the model's, from which the head is made.
        max_length: tokens at most in a row: the option, or fewer where the architecture takes fewer.
        notes: what a reader must know: how many training texts are cut.
    """

    def __init__(
        self, *, tokenizer: TextTokenizer, config: Mapping[str, Any], problem: Problem, options: TransformersOptions,
        max_length: int, notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.tokenizer, self.config = tokenizer, dict(config)
        self.problem, self.options = problem, options
        self.max_length, self.notes = max_length, list(notes)

    @cached_property
    def head(self) -> Head:
        """What the task asks of the network."""
        return head_for(self.problem, self.options)

    @cached_property
    def inputs(self) -> Inputs:
        """What makes input tensors."""
        type_ids = int(self.config.get("type_vocab_size") or 0) > 1
        return Inputs(self.tokenizer, max_length=self.max_length, type_ids=type_ids)

    def units(self, train: Split) -> Split:
        return self.head.units(train, inputs=self.inputs)

    def lengths(self, examples: Split) -> Sequence[int] | None:
        return self.head.lengths(examples) if self.options.buckets else None

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        return self.head.collate(examples, keys, training=training, inputs=self.inputs)

    def as_json(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.as_json(), "config": self.config, "problem": dict(self.problem),
            "options": self.options.as_json(), "max_length": self.max_length, "notes": self.notes,
        }  # fmt: skip

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(
            tokenizer=TextTokenizer.from_json(state["tokenizer"]), config=state["config"], problem=state["problem"],
            options=TransformersOptions.model_validate(state["options"]), max_length=state["max_length"],
            notes=state["notes"],
        )  # fmt: skip
