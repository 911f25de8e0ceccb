"""How do pairs of texts become numbers: inputs, what is to be written, and what had to be cut?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from plait.model import Batch, Key, Processor
from plait.randomness import uniforms
from plait.task import Split
from plait_nlp.architectures.heads import pad_rows
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.sequence_to_sequence.examples import SequenceExample

IGNORED = -100
"""A target that no loss counts: torch's own number for it."""
_CHECKED = 2048  # texts that are tokenized at a time to count the long ones


class PairProcessor(Processor):
    """A tokenizer for both sides, and how long they may be. It knows no network.

    Args:
        tokenizer: with an end, and a start or a filler.
        max_source, max_target: tokens at most, the end counted.
        notes: what a reader must know: how many training texts are cut.
    """

    def __init__(
        self, tokenizer: TextTokenizer, *, max_source: int, max_target: int, notes: Sequence[str] = ()
    ) -> None:
        self.tokenizer = tokenizer
        self.max_source, self.max_target = max_source, max_target
        self.notes = list(notes)

    @property
    def start(self) -> int:
        """What writing starts from."""
        found = self.tokenizer.id("bos")
        return self.tokenizer.pad if found is None else found

    @property
    def end(self) -> int:
        """What ends a text."""
        found = self.tokenizer.id("eos")
        assert found is not None  # every tokenizer of style "seq2seq" has one
        return found

    def lengths(self, examples: Split) -> Sequence[int]:
        return [examples[index].size for index in range(len(examples))]

    def collate(self, examples: Sequence[SequenceExample], keys: Sequence[Key], *, training: bool) -> Batch:
        """`source` [batch, places], its `mask`, and, where there are references, `written` [batch, tokens] (what the
        decoder reads: the start, then all but the last) and `target`, `IGNORED` beyond the end."""
        ids, cut = cut_rows(self.tokenizer, [each.text for each in examples], self.max_source)
        tensors = {"source": torch.from_numpy(pad_rows(ids, self.tokenizer.pad)), "mask": length_mask(ids)}
        count = 0
        if all(each.references for each in examples):
            texts = chosen_references(examples, keys, training=training)
            rows, _ = cut_rows(self.tokenizer, texts, self.max_target)
            tensors["target"] = torch.from_numpy(pad_rows(rows, IGNORED))
            shifted = [[self.start, *row[:-1]] for row in rows]
            tensors["written"] = torch.from_numpy(pad_rows(shifted, self.tokenizer.pad))
            count = sum(map(len, rows))
        return Batch(tensors, count, len(examples), {"cut": cut, "sizes": [len(row) for row in ids]})

    def as_json(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.as_json(), "max_source": self.max_source, "max_target": self.max_target,
            "notes": self.notes,
        }  # fmt: skip

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(
            TextTokenizer.from_json(state["tokenizer"]), max_source=state["max_source"],
            max_target=state["max_target"], notes=state["notes"],
        )  # fmt: skip


def cut_rows(tokenizer: TextTokenizer, texts: Sequence[str], length: int) -> tuple[list[list[int]], list[int]]:
    """Token numbers with the end, at most `length` of them, and how many tokens of each text were left out."""
    found = tokenizer.cut(texts, length)
    return [each.ids for each in found], [sum(len(more.ids) - 1 for more in each.overflowing) for each in found]


def length_mask(rows: Sequence[Sequence[int]]) -> Tensor:
    """True at the places that rows have, [rows, longest]."""
    sizes = np.array([len(row) for row in rows], np.int64)
    return torch.from_numpy(np.arange(max(1, sizes.max(initial=0))) < sizes[:, None])


def chosen_references(examples: Sequence[SequenceExample], keys: Sequence[Key], *, training: bool) -> list[str]:
    """One reference of each: in training any, drawn by the key; else the first."""
    if not training or all(len(each.references) == 1 for each in examples):
        return [each.references[0] for each in examples]
    drawn = uniforms(keys, 1)[:, 0]
    return [each.references[int(u * len(each.references))] for each, u in zip(examples, drawn.tolist(), strict=True)]


def texts_of(train: Split) -> Iterator[str]:
    """All texts of both sides, for a tokenizer to learn from."""
    for index in range(len(train)):
        example = train[index]
        yield example.text
        yield from example.references


def count_cut(
    train: Split, tokenizer: TextTokenizer, *, max_source: int, max_target: int, names: Sequence[str]
) -> list[str]:
    """Notes on training texts that have more tokens than a network takes.

    Args:
        names: the options that say how many it takes, of inputs and of targets.
    """
    notes = []
    for side, most, option in zip(("inputs", "targets"), (max_source, max_target), names, strict=True):
        over, longest, total = 0, 0, 0
        for first in range(0, len(train), _CHECKED):
            some = (train[index] for index in range(first, min(first + _CHECKED, len(train))))
            texts = [text for each in some for text in ([each.text] if side == "inputs" else each.references)]
            sizes = [len(ids) for ids in tokenizer.encode(texts)]
            over, longest = over + sum(size > most for size in sizes), max(longest, *sizes)
            total += len(sizes)
        if over:
            notes.append(
                f"{over} of {total} training {side} have more than {most} tokens and are cut there (the longest has"
                f" {longest}); {option} changes it"
            )
    return notes


def token_loss(logits: Tensor, target: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy, nats, mean over the targets that count.

    Args:
        logits: [tokens, vocabulary].
        target: [tokens].
        smoothing: the share of probability that is spread over all tokens.
    """
    return F.cross_entropy(logits.float(), target, ignore_index=IGNORED, label_smoothing=smoothing)
