"""What do texts with a class, labels or a number ask of an architecture of transformers?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from plait.errors import DataError, did_you_mean
from plait.evaluation import ClassPrediction
from plait.model import Batch, Key, Output
from plait.task import Problem, Split
from plait_nlp.architectures.heads import Head, Inputs, network_inputs, no_logits
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.examples import TextExample
from plait_nlp.text_classification.predictions import LabelSetPrediction, NumberPrediction

_CHECKED = 2048  # texts that are tokenized at a time to count the long ones


class ClassificationHead(Head):
    """Cross-entropy over classes, binary cross-entropy over labels, or squared error of a scaled number."""

    auto: ClassVar[str] = "AutoModelForSequenceClassification"

    def corpus(self, train: Split) -> Iterable[str]:
        return chain.from_iterable(texts_of(train))

    def settings(self) -> dict[str, Any]:
        labels = self.problem.get("labels", ["value"])
        kinds = {"class": "single_label_classification", "labels": "multi_label_classification", "number": "regression"}
        return {
            "id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": kinds[self.problem["target"]],
        }  # fmt: skip

    def lengths(self, examples: Split) -> Sequence[int] | None:
        return [examples[index].size for index in range(len(examples))]

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        return count_cut(train, tokenizer, max_length)

    def collate(self, examples: Sequence[TextExample], keys: Sequence[Key], *, training: bool, inputs: Inputs) -> Batch:
        pairs = [each.pair or "" for each in examples] if self.problem["pairs"] else None
        tensors = inputs.tensors([each.text for each in examples], pairs)
        if all(each.label is not None for each in examples):
            tensors["target"] = self.targets(examples, self.problem)
        return Batch(tensors, len(examples) if "target" in tensors else 0, len(examples))

    @staticmethod
    def targets(examples: Sequence[TextExample], problem: Problem) -> torch.Tensor:
        """Class numbers [batch], ones of labels [batch, labels], or scaled numbers [batch].

        Raises:
            DataError: a label is not one of the problem's.
        """
        if problem["target"] == "number":
            mean, deviation = problem["mean"], problem["deviation"]
            return torch.tensor([(each.label - mean) / deviation for each in examples], dtype=torch.float32)
        index = {label: position for position, label in enumerate(problem["labels"])}
        for each in examples:
            for label in (each.label,) if isinstance(each.label, str) else each.label:
                if label not in index:
                    raise DataError(
                        f"{each.id}: label {label!r} is not one of the {len(index)} that the model knows",
                        hint=did_you_mean(label, index),
                    )
        if problem["target"] == "class":
            return torch.tensor([index[each.label] for each in examples], dtype=torch.int64)
        table = np.zeros((len(examples), len(index)), np.float32)
        for row, each in enumerate(examples):
            table[row, [index[label] for label in each.label]] = 1
        return torch.from_numpy(table)

    def forward(self, network: Any, batch: Batch) -> Output:
        if not batch.size:
            return Output(None, no_logits(network))
        logits = network(**network_inputs(batch)).logits.float()
        target = batch.get("target")
        return Output(None if target is None else loss_of(logits, target, self.problem["target"]), logits)

    def decode(self, output: Output, batch: Batch) -> list[Any]:
        return decode_logits(output.logits, self.problem)


def loss_of(logits: torch.Tensor, target: torch.Tensor, kind: str) -> torch.Tensor:
    """The mean over examples of a target's loss; of labels, the mean over them too."""
    if kind == "class":
        return F.cross_entropy(logits, target)
    if kind == "labels":
        return F.binary_cross_entropy_with_logits(logits, target)
    return F.mse_loss(logits[:, 0], target)


def decode_logits(logits: torch.Tensor, problem: Any) -> list[Any]:
    """Predictions of a problem's kind from logits [batch, outputs]."""
    if problem["target"] == "class":
        return [ClassPrediction(row) for row in logits.double().softmax(1).cpu().numpy()]
    if problem["target"] == "labels":
        return [LabelSetPrediction(row) for row in logits.double().sigmoid().cpu().numpy()]
    return [NumberPrediction(each * problem["deviation"] + problem["mean"]) for each in logits[:, 0].double().tolist()]


def texts_of(split: Split) -> Iterator[list[str]]:
    """The texts of each example, its pair after it."""
    for index in range(len(split)):
        example = split[index]
        yield [example.text] if example.pair is None else [example.text, example.pair]


def count_cut(train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
    """A note on training texts (pairs) that have more tokens than a network takes."""
    over, longest = 0, 0
    for first in range(0, len(train), _CHECKED):
        some = [train[index] for index in range(first, min(first + _CHECKED, len(train)))]
        pairs = None if some[0].pair is None else [each.pair or "" for each in some]
        sizes = [len(ids) for ids in tokenizer.encode([each.text for each in some], pairs)]
        over += sum(size > max_length for size in sizes)
        longest = max(longest, *sizes)
    if not over:
        return None
    return (
        f"{over} of {len(train)} training texts have more than {max_length} tokens and are cut there (the longest has"
        f" {longest}); model.max_length changes it"
    )
