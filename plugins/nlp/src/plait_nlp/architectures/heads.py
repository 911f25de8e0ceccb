"""What does a task ask of an architecture: which network, which tensors, which loss, which answer?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plait.errors import RecipeError
from plait.model import Batch, Key, Output
from plait.task import Problem, Split
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.architectures.tokenizers import TextTokenizer

HEADS: Mapping[str, str] = {
    "classification": "plait_nlp.text_classification.head:ClassificationHead",
    "sentence-embedding": "plait_nlp.sentence_embedding.head:EmbeddingHead",
    "causal-language-modelling": "plait_nlp.language_modelling.head:CausalHead",
    "question-answering": "plait_nlp.question_answering.head:AnsweringHead",
    "token-classification": "plait_nlp.token_classification.head:TaggingHead",
    "hidden-words": "plait_nlp.masked_modelling.head:HiddenWordsHead",
    "hidden-words-and-next-sentence": "plait_nlp.masked_modelling.head:HiddenWordsAndNextSentenceHead",
    "sequence-to-sequence": "plait_nlp.sequence_to_sequence.head:SequenceHead",
}
"""The class for each `problem["objective"]`; it is imported when a model is made for it."""


class Head(ABC):
    """What a task asks of an architecture. It holds no weights, so that a processor can carry it to loader processes.

    Args:
        problem: the task's; its "objective" chooses the class.
        options: the model's.
    """

    auto: ClassVar[str]
    """The class of transformers that makes the network: "AutoModelForSequenceClassification"."""
    compares_examples: ClassVar[bool] = False
    """As `NeuralModel.compares_examples`."""

    def __init__(self, *, problem: Problem, options: TransformersOptions) -> None:
        self.problem = problem
        self.options = options

    @abstractmethod
    def corpus(self, train: Split) -> Iterable[str]:
        """The texts that a tokenizer is trained on."""

    def settings(self) -> dict[str, Any]:
        """Fields of the config that the task decides: the labels."""
        return {}

    def check(self, kind: type, config: Any) -> None:  # noqa: B027  # most tasks ask for no more than the form
        """Refuse a network that lacks what the task needs.

        Args:
            kind: its class in transformers.
            config: of it.

        Raises:
            RecipeError: says which have it.
        """

    def special_tokens(self) -> Sequence[str]:
        """Further special tokens that a tokenizer that is trained gets."""
        return ()

    def units(self, train: Split, *, inputs: Inputs) -> Split:
        """As `Processor.units`; `inputs` has the tokenizer by which texts are cut into units."""
        return train

    def lengths(self, examples: Split) -> Sequence[int] | None:
        """As `Processor.lengths`."""
        return None

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        """A note on training texts that are longer than the network takes; None where there are none."""
        return None

    @abstractmethod
    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool, inputs: Inputs) -> Batch:
        """As `Processor.collate`; `inputs` makes the tensors that the architecture takes."""

    @abstractmethod
    def forward(self, network: Any, batch: Batch) -> Output:
        """Loss and logits of a batch."""

    @abstractmethod
    def decode(self, output: Output, batch: Batch) -> list[Any]:
        """One prediction for each example."""

    def predict_batch(
        self, network: Any, batch: Batch, engine: Any, output: Output | None, *, inputs: Inputs
    ) -> list[Any] | None:
        """Predictions that need more than one forward (generation); None: `decode` of a forward is what is wanted.

        Args:
            network: the transformers model itself, on the engine's device, in evaluation mode.
        """
        return None


class Inputs:
    """Makes an architecture's input tensors of texts. It knows no targets.

    Args:
        tokenizer: its tokenizer.
        max_length: tokens at most in a row.
        type_ids: whether the architecture tells a text from its pair.
    """

    def __init__(self, tokenizer: TextTokenizer, *, max_length: int, type_ids: bool) -> None:
        self.tokenizer, self.max_length, self.type_ids = tokenizer, max_length, type_ids

    def tensors(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """input_ids and attention_mask [batch, longest], and token_type_ids where the architecture has them; int64.

        Longer texts are cut at their end (of a pair: the longer one first).
        """
        rows: Any = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        found = self.tokenizer.cut(rows, self.max_length)
        return self.padded(
            [each.ids for each in found], [each.type_ids for each in found] if pairs is not None else None
        )

    def padded(self, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None) -> dict[str, Tensor]:
        """The same from token numbers: rows are filled at their end."""
        mask = np.zeros((len(ids), max(map(len, ids), default=1)), np.int64)
        for row, each in enumerate(ids):
            mask[row, : len(each)] = 1
        tensors = {
            "input_ids": torch.from_numpy(pad_rows(ids, self.tokenizer.pad)), "attention_mask": torch.from_numpy(mask),
        }  # fmt: skip
        if self.type_ids:
            kinds = np.zeros_like(mask) if types is None else pad_rows(types, 0)
            tensors["token_type_ids"] = torch.from_numpy(kinds)
        return tensors


def pad_rows(rows: Sequence[Sequence[int]], fill: int) -> npt.NDArray[np.int64]:
    """Rows of different lengths as one array [rows, longest] (at least one column), filled at their end."""
    table = np.full((len(rows), max(map(len, rows), default=1) or 1), fill, np.int64)
    for row, each in enumerate(rows):
        table[row, : len(each)] = each
    return table


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def network_inputs(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch that a network takes as they are."""
    return {name: batch.tensors[name] for name in INPUTS if name in batch.tensors}


def no_logits(network: Any) -> Tensor:
    """Logits of an idle process's empty batch, [0, 1]: there is nothing to attend to, but the parameters take part."""
    total = torch.stack([parameter.sum() for parameter in network.parameters()]).sum()
    return total * total.new_zeros(0, 1)


def head_for(problem: Problem, options: TransformersOptions) -> Head:
    """The head that a task's problem asks for.

    Raises:
        RecipeError: the problem has no objective that an architecture can serve.
    """
    objective = problem.get("objective")
    if objective not in HEADS:
        raise RecipeError(
            f"{options.name} does not know how to serve the objective {objective!r}",
            hint=f"it serves {', '.join(HEADS)}",
        )
    module, _, name = HEADS[str(objective)].partition(":")
    head: Head = getattr(import_module(module), name)(problem=problem, options=options)
    return head
