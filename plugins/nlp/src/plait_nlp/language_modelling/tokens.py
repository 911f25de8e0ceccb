"""How does a text become the blocks of tokens that a language model trains on, and the windows that it is judged on?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from plait.errors import DataError
from plait.model import Batch, Key, Output
from plait.randomness import uniforms
from plait.task import Split
from plait_nlp.architectures.tokenizers import Kind, TextTokenizer, train_tokenizer
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.predictions import UNKNOWN, TextScore
from plait_nlp.language_modelling.symbols import encoder_of

Tokens = npt.NDArray[np.unsignedinteger[Any]]

_IGNORED = -100  # what torch's cross-entropy leaves out
_AT_ONCE = 1024  # pieces that are tokenized together
_LOGITS = 1 << 24  # logits held at once when judging: 64 MB
_SAMPLE = 16 << 20  # bytes that merges are learned from; ten times as many change few of them


@dataclass(frozen=True, slots=True)
class Block:
    """What an epoch visits: a stretch of the training tokens, across documents.

    Args:
        tokens: all of them.
        start: the first of the stretch.
    """

    tokens: Tokens
    start: int


class Blocks(Sequence[Block]):
    """The training tokens in stretches that follow one another; the last one overlaps the one before.

    Args:
        tokens: all of them, at least two.
        length: of a stretch; it has one more, the last one's target.
    """

    in_memory = True

    def __init__(self, tokens: Tokens, length: int) -> None:
        self.tokens, self.length = tokens, min(length, len(tokens) - 1)

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.length)

    def __getitem__(self, index: Any) -> Any:
        start = min(range(len(self))[index] * self.length, len(self.tokens) - 1 - self.length)
        return Block(self.tokens, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Makes blocks, windows and batches with a tokenizer. It knows no network.

    Args:
        tokenizer: fitted.
        length: tokens that a network sees at once.
        shift: whether each epoch cuts the blocks elsewhere.
    """

    tokenizer: TextTokenizer
    length: int
    shift: bool = True

    @property
    def boundary(self) -> int:
        """The token before, between and after documents.

        Raises:
            DataError: the tokenizer has none that could be.
        """
        for role in ("eos", "bos", "sep", "cls"):
            found = self.tokenizer.id(role)
            if found is not None:
                return found
        raise DataError("the tokenizer has no token for the end of a text", hint="choose model.tokenizer=bpe")

    def units(self, train: Split) -> Blocks:
        """The training text as packed blocks.

        Tokens lie in a temporary file that is mapped, 2 bytes each (4 above 65,536 kinds), and vanish with the process;
        a resumed run makes them again, the same ones.
        """
        kind = np.uint16 if len(self.tokenizer) <= 1 << 16 else np.uint32
        with tempfile.TemporaryFile(prefix="plait-tokens-") as file:
            for ids in self._stream(train):
                file.write(np.asarray(ids, kind).tobytes())
            file.flush()
            size = file.tell() // np.dtype(kind).itemsize
            tokens: Tokens = np.memmap(file, kind, mode="r", shape=(size,)) if size else np.empty(0, kind)
        if len(tokens) < 3:  # the two boundaries are always there
            raise DataError("the training text is empty", hint="give a longer text")
        return Blocks(tokens, self.length)

    def shortage(self, train: Split) -> str | None:
        """A note where the training text does not fill one block."""
        found, encode = 1, encoder_of(self.tokenizer)
        for first in range(0, len(train), _AT_ONCE):
            texts = [train[index].text for index in range(first, min(first + _AT_ONCE, len(train)))]
            found += sum(map(len, encode(texts)))
            if found > self.length:
                return None
        return f"the training text has {found} tokens, which do not fill one block of {self.length}"

    def _stream(self, train: Split) -> Iterator[Any]:
        encode = encoder_of(self.tokenizer)
        for first in range(0, len(train), _AT_ONCE):
            pieces: list[Piece] = [train[index] for index in range(first, min(first + _AT_ONCE, len(train)))]
            found = encode([each.text for each in pieces])
            for piece, ids in zip(pieces, found, strict=True):
                if piece.first:
                    yield [self.boundary]
                yield ids
        yield [self.boundary]

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        """Blocks as they are (when training: elsewhere by their key), or pieces as windows.

        Tensors `ids` and `target` are [batch, windows, length]; a target of -100 is none.
        """
        if not examples:
            empty = torch.zeros((0, 1, 1), dtype=torch.int64)
            return Batch({"ids": empty, "target": empty}, 0, 0, {"tokens": [], "sizes": [], "unknown": []})
        if isinstance(examples[0], Block):
            return self._blocks(examples, keys, training=training)
        contexts = self.tokenizer.encode([each.context for each in examples], special=False)
        texts = self.tokenizer.encode([each.text for each in examples], special=False)
        listed = [
            self._windows(context or [self.boundary], text) for context, text in zip(contexts, texts, strict=True)
        ]
        shape = (
            len(examples),
            max(map(len, listed)),
            max((len(ids) for each in listed for ids, _ in each), default=1),
        )
        ids, target = np.full(shape, self.tokenizer.pad, np.int64), np.full(shape, _IGNORED, np.int64)
        for row, windows in enumerate(listed):
            for number, (inputs, targets) in enumerate(windows):
                ids[row, number, : len(inputs)], target[row, number, : len(inputs)] = inputs, targets
        unknown = self.tokenizer.id("unk")
        extra = {
            "tokens": [len(each) for each in texts], "sizes": [each.size for each in examples],
            "unknown": [0 if unknown is None else each.count(unknown) for each in texts],
        }  # fmt: skip
        count = sum(map(len, texts))
        return Batch({"ids": torch.from_numpy(ids), "target": torch.from_numpy(target)}, count, len(examples), extra)

    def _blocks(self, blocks: Sequence[Block], keys: Sequence[Key], *, training: bool) -> Batch:
        tokens = blocks[0].tokens
        length = min(self.length, len(tokens) - 1)
        starts = np.array([each.start for each in blocks])
        if training and self.shift:
            moved = starts + (uniforms(keys, 1)[:, 0] * length).astype(np.int64)
            starts = np.minimum(moved, len(tokens) - 1 - length)
        rows = np.stack([tokens[start : start + length + 1] for start in starts.tolist()]).astype(np.int64)[:, None]
        tensors = {"ids": torch.from_numpy(rows[..., :-1].copy()), "target": torch.from_numpy(rows[..., 1:].copy())}
        extra = {"tokens": [length] * len(blocks), "sizes": [0] * len(blocks), "unknown": [0] * len(blocks)}
        return Batch(tensors, length * len(blocks), len(blocks), extra)

    def _windows(self, context: list[int], text: list[int]) -> list[tuple[list[int], list[int]]]:
        """Inputs and targets of each forward for a piece: every token of it is a target once.

        Windows move by half of the length, so that each target sees at least that much before it, where there is so
        much.
        """
        row, first = context + text, len(context)
        stride, windows = max(1, self.length // 2), []
        for start in range(first, len(row), stride):
            end = min(start + stride, len(row))
            begin = max(0, end - 1 - self.length)
            inputs, targets = row[begin : end - 1], row[begin + 1 : end]
            hidden = start - begin - 1  # targets that an earlier window had
            windows.append((inputs, [_IGNORED] * hidden + targets[hidden:]))
        return windows


def score_batch(logits_of: Callable[[Tensor], Tensor], batch: Batch, *, vocabulary: int) -> Output:
    """The loss of a batch of blocks or windows, per token, and as logits minus the log-probability of each example.

    Args:
        logits_of: from tokens [rows, length] to logits [rows, length, vocabulary].
        vocabulary: kinds of tokens; when judging, so many rows are forwarded together that 64 MB hold their logits.
    """
    ids, target = batch["ids"], batch["target"]
    owner = torch.arange(len(ids), device=ids.device).repeat_interleave(ids.shape[1])
    ids, target = ids.flatten(0, 1), target.flatten(0, 1)
    if batch["ids"].shape[1] > 1:  # pieces have different numbers of windows
        used = (target != _IGNORED).any(1)
        ids, target, owner = ids[used], target[used], owner[used]
    nats = torch.zeros(batch.size, device=ids.device)
    rows = len(ids) if torch.is_grad_enabled() else max(1, _LOGITS // (ids.shape[1] * vocabulary))
    for first in range(0, len(ids), max(1, rows)):
        part = slice(first, first + rows)
        logits = logits_of(ids[part]).float()
        losses = F.cross_entropy(
            logits.flatten(0, 1), target[part].flatten(), reduction="none", ignore_index=_IGNORED
        ).view(target[part].shape)
        nats = nats.index_add(0, owner[part], losses.sum(1))
    return Output(nats.sum() / max(1, batch.count), nats)


def decode_scores(output: Output, batch: Batch) -> list[TextScore]:
    """The score of each piece of a batch."""
    extra = batch.extra
    found = zip(output.logits.double().tolist(), extra["tokens"], extra["sizes"], extra["unknown"], strict=True)
    return [TextScore(nats + unknown * UNKNOWN, tokens, size, unknown) for nats, tokens, size, unknown in found]


def learned_tokenizer(train: Split | None, *, kind: Kind, size: int) -> TextTokenizer:
    """A tokenizer that keeps every byte of a text: its characters, its bytes, or byte-level BPE.

    Characters are all those of the training text; merges are learned from 16 MB of it, evenly spread.

    Raises:
        DataError: there is no text.
    """
    if train is None or not len(train):
        raise DataError("there is no text to learn a tokenizer from", hint="give training text")
    texts = alphabet_of(train) if kind == "char" else sample_of(train)
    return train_tokenizer(texts, kind=kind, style="gpt", size=size)


def alphabet_of(train: Split) -> list[str]:
    """Every character of the training text, as one text."""
    seen: set[str] = set()
    for index in range(len(train)):
        seen.update(train[index].text)
    return ["".join(sorted(seen))]


def sample_of(train: Split) -> Iterator[str]:
    """Pieces of the training text, evenly spread, 16 MB at most."""
    size = max(1, train[0].size, train[len(train) // 2].size)
    every = max(1, -(-len(train) * size // _SAMPLE))
    return (train[index].text for index in range(0, len(train), every))
