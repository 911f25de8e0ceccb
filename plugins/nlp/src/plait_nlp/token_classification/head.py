"""What do words with tags ask of an architecture of transformers?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from plait.errors import DataError
from plait.model import Batch, Key, Output
from plait.task import Split
from plait_nlp.architectures.heads import Head, Inputs
from plait_nlp.architectures.tokenizers import TextTokenizer
from plait_nlp.architectures.windows import Window, cut_windows, fold, fold_values, run_windows, unfold
from plait_nlp.token_classification.crf import best_paths, step_penalties
from plait_nlp.token_classification.examples import TagPrediction, TokenExample

_OVERLAP = 32  # tokens that two rows of a long text share, so that no word is judged without its neighbours
_CHECKED = 2048  # sentences that are tokenized at a time to count the long ones
_WORDS_AT_ONCE = 100_000  # whose tags are decided together, filling included
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class _Row:
    """A window, and which of a sentence's words are judged in it, each at its first piece.

    Args:
        words: their numbers.
        places: of their first pieces in the row.
    """

    window: Window
    words: list[int]
    places: list[int]


class TaggingHead(Head):
    """Cross-entropy of each word's tag at its first piece (Devlin et al. 2019, section 5.3).

    A sentence that is longer than the network takes is read in rows that overlap, so that every word gets its tag; the
    answer is the most probable sequence that IOB2 allows. A word of which the tokenizer leaves nothing is O.
    """

    auto: ClassVar[str] = "AutoModelForTokenClassification"

    def corpus(self, train: Split) -> Iterable[str]:
        return (train[index].text for index in range(len(train)))

    def settings(self) -> dict[str, Any]:
        labels = self.problem["labels"]
        return {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }

    def lengths(self, examples: Split) -> Sequence[int] | None:
        return [len(examples[index].spans) for index in range(len(examples))]

    def cut(self, train: Split, tokenizer: TextTokenizer, max_length: int) -> str | None:
        over, longest = 0, 0
        for first in range(0, len(train), _CHECKED):
            texts = [train[index].text for index in range(first, min(first + _CHECKED, len(train)))]
            sizes = [len(ids) for ids in tokenizer.encode(texts)]
            over, longest = over + sum(size > max_length for size in sizes), max(longest, *sizes)
        if not over:
            return None
        return (
            f"{over} of {len(train)} training sentences have more than {max_length} tokens (the longest has {longest});"
            f" they are read in rows of {max_length} that overlap, none is cut; model.max_length changes it"
        )

    def collate(
        self, examples: Sequence[TokenExample], keys: Sequence[Key], *, training: bool, inputs: Inputs
    ) -> Batch:
        encodings = inputs.tokenizer.encodings([each.text for each in examples])
        rows: list[_Row] = []
        owners: list[int] = []
        for position, (example, encoding) in enumerate(zip(examples, encodings, strict=True)):
            own = _rows(example, encoding, inputs.max_length)
            rows += own
            owners += [position] * len(own)
        tensors = fold([each.window for each in rows], owners, len(examples), inputs)
        extra = {"examples": list(examples), "rows": rows, "owners": owners}
        if not examples or any(each.tags is None for each in examples):
            return Batch(tensors, 0, len(examples), extra)
        index = {label: number for number, label in enumerate(self.problem["labels"])}
        target = np.full((len(rows), tensors["input_ids"].shape[2]), _IGNORED, np.int64)
        for row, (owner, each) in enumerate(zip(owners, rows, strict=True)):
            target[row, each.places] = [_number(index, examples[owner], word) for word in each.words]
        tensors["target"] = fold_values(torch.from_numpy(target), len(examples))
        return Batch(tensors, max(1, int((target != _IGNORED).sum())), len(examples), extra)

    def forward(self, network: Any, batch: Batch) -> Output:
        if not batch.size:  # the empty batch of an idle rank: the parameters take part
            total = torch.stack([parameter.sum() for parameter in network.parameters()]).sum()
            return Output(None, total * total.new_zeros(0, 1, 1))
        (logits,) = run_windows(network, batch, ["logits"])
        if batch.get("target") is None:
            return Output(None, logits)
        target = unfold(batch, "target")
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=_IGNORED, reduction="sum")
        return Output(loss / batch.count, logits)

    def decode(self, output: Output, batch: Batch) -> list[TagPrediction]:
        examples, labels = batch.extra["examples"], self.problem["labels"]
        if not examples:
            return []
        logits = output.logits.float().log_softmax(-1).cpu()
        own: list[list[tuple[int, _Row]]] = [[] for _ in examples]
        for row, (owner, each) in enumerate(zip(batch.extra["owners"], batch.extra["rows"], strict=True)):
            own[owner].append((row, each))
        steps, found = step_penalties(labels), []
        for group in _groups([len(each.spans) for each in examples]):
            lengths = torch.tensor([len(examples[position].spans) for position in group])
            scores = torch.zeros(len(group), int(lengths.max()), len(labels))
            scores[:, :, 0] = 1.0  # O for words without a piece: the best of nothing
            for place, position in enumerate(group):
                for row, each in own[position]:
                    scores[place, each.words] = logits[row, each.places]
            paths = best_paths(scores, steps, lengths)
            chosen = scores.gather(2, paths[:, :, None])[:, :, 0].exp().clamp(max=1.0).numpy()
            for position, path, sure in zip(group, paths.tolist(), chosen, strict=True):
                size = len(examples[position].spans)
                found.append(TagPrediction(examples[position], tuple(labels[tag] for tag in path[:size]), sure[:size]))
        return found


def _groups(sizes: Sequence[int]) -> list[range]:
    """Neighbours whose paths are found together: filled to the longest of them, they have not too many words."""
    found, first, widest = [], 0, 0
    for position, size in enumerate(sizes):
        if position > first and max(widest, size) * (position + 1 - first) > _WORDS_AT_ONCE:
            found.append(range(first, position))
            first, widest = position, 0
        widest = max(widest, size)
    return [*found, range(first, len(sizes))]


def _number(index: dict[str, int], example: TokenExample, word: int) -> int:
    tag = (example.tags or ())[word]
    if tag not in index:
        raise DataError(f"{example.id}: the tag {tag!r} of word {word} is not among those that the model knows")
    return index[tag]


def _rows(example: TokenExample, encoding: Any, length: int) -> list[_Row]:
    """The rows of one sentence; each word is judged in the row where most is known on both sides of it."""
    special = np.array(encoding.special_tokens_mask, bool)
    inside = np.flatnonzero(~special)
    tokens = list(zip(encoding.ids, encoding.type_ids, strict=True))
    first, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (len(tokens), len(tokens))
    windows = cut_windows(tokens[:first], tokens[first:end], tokens[end:], length=length, overlap=_OVERLAP)
    ends = np.array([max(1, last) for _, last in encoding.offsets[first:end]], np.int64) - 1
    starts = np.array([begin for begin, _ in example.spans], np.int64)
    word = np.searchsorted(starts, ends, side="right") - 1  # whose the last character of each piece is
    words, pieces = np.unique(word, return_index=True)
    words, pieces = words[words >= 0], pieces[words >= 0]
    if len(windows) == 1:
        return [_Row(windows[0], words.tolist(), (pieces + windows[0].lead).tolist())]
    # two rows meet in the middle of what they share
    middles = [(one.first + one.size + other.first + 1) // 2 for one, other in pairwise(windows)]
    bounds = [0, *np.searchsorted(pieces, middles).tolist(), len(pieces)]
    return [
        _Row(window, words[low:high].tolist(), (pieces[low:high] - window.first + window.lead).tolist())
        for window, (low, high) in zip(windows, pairwise(bounds), strict=True)
    ]
