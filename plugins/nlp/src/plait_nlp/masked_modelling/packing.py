"""Which rows of tokens does an epoch visit, and which of their tokens are hidden?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plait.model import Key
from plait.randomness import uniforms
from plait.task import Split
from plait_nlp.architectures.tokenizers import TextTokenizer

Ints = npt.NDArray[np.int64]
_AT_ONCE = 4096  # sentences that are tokenized together
_PER_ROW, _PER_TOKEN = 3, 3  # uniform numbers: for the pair; for whether, how and by what a token is replaced


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive sentences of one document that fit into a row: what an epoch visits one by one.

    Args:
        spans: where it is from.
        index: which it is there.
    """

    spans: Spans
    index: int


class Spans(Sequence[Span]):
    """The documents of a split as rows of tokens, in two flat arrays. It knows no masks.

    Args:
        ids: tokens of all sentences, one after the other; a sentence that is longer than a row is divided.
        starts: whether a token begins a word.
        sentences: [sentences + 1], where each begins in `ids`.
        bounds: [spans + 1], the first sentence of each.
        documents: [spans], the number of the document that each is of.
    """

    in_memory = True

    def __init__(self, *, ids: Ints, starts: npt.NDArray[np.bool_], sentences: Ints, bounds: Ints, documents: Ints):
        self.ids, self.starts, self.sentences, self.bounds, self.documents = ids, starts, sentences, bounds, documents
        self.several = np.flatnonzero(np.diff(bounds) > 1)
        """Spans of two sentences or more."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [Span(self, each) for each in range(len(self))[index]]
        return Span(self, range(len(self))[index])

    def lengths(self) -> list[int]:
        """Tokens of each."""
        found: list[int] = np.diff(self.sentences[self.bounds]).tolist()
        return found

    def whole(self, index: int) -> slice:
        """Where a span's tokens are."""
        return slice(int(self.sentences[self.bounds[index]]), int(self.sentences[self.bounds[index + 1]]))

    def parted(self, index: int, share: float) -> tuple[slice, slice]:
        """A span's tokens before and after one of the places where its sentences meet; `share` in [0, 1) says which."""
        first, last = int(self.bounds[index]), int(self.bounds[index + 1])
        at = first + 1 + int(share * (last - first - 1))
        whole = self.whole(index)
        return slice(whole.start, int(self.sentences[at])), slice(int(self.sentences[at]), whole.stop)

    def elsewhere(self, index: int, share: float) -> int | None:
        """A span of two sentences or more in another document; None where there is none."""
        before, after = np.searchsorted(
            self.documents[self.several], [self.documents[index], self.documents[index] + 1]
        )
        others = len(self.several) - int(after - before)
        if not others:
            return None
        place = int(share * others)
        return int(self.several[place if place < before else place + int(after - before)])


def pack(documents: Split, tokenizer: TextTokenizer, *, budget: int, words: bool) -> Spans:
    """The spans of a split's documents, each of as many whole sentences as have `budget` tokens.

    Args:
        words: whether `starts` is wanted; else every token begins a word.
    """
    sentences = [(number, text) for number in range(len(documents)) for text in documents[number].sentences]
    ids: list[Ints] = []
    starts: list[npt.NDArray[np.bool_]] = []
    lengths: list[int] = []
    owners: list[int] = []
    for first in range(0, len(sentences), _AT_ONCE):
        some = sentences[first : first + _AT_ONCE]
        texts = [text for _, text in some]
        found = (
            _with_words(tokenizer, texts) if words else [(row, None) for row in tokenizer.encode(texts, special=False)]
        )
        for (owner, _), (row, begins) in zip(some, found, strict=True):
            ids.append(np.asarray(row, np.int64))
            starts.append(np.ones(len(row), bool) if begins is None else begins)
            for at in range(0, len(row), budget):
                lengths.append(min(budget, len(row) - at))
                owners.append(owner)
    bounds, held = [0], 0
    for place, (length, owner) in enumerate(zip(lengths, owners, strict=True)):
        if place and (owner != owners[place - 1] or held + length > budget):
            bounds.append(place)
            held = 0
        held += length
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    if lengths:
        bounds.append(len(lengths))
    return Spans(
        ids=flat, starts=np.concatenate(starts) if starts else np.zeros(0, bool),
        sentences=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        bounds=np.array(bounds, np.int64), documents=np.array([owners[each] for each in bounds[:-1]], np.int64),
    )  # fmt: skip


def _with_words(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[tuple[list[int], npt.NDArray[np.bool_]]]:
    found = []
    for each in tokenizer.encodings(texts, special=False):
        word = np.array([-1 if number is None else number for number in each.word_ids], np.int64)
        found.append((each.ids, np.concatenate([np.ones(min(1, len(word)), bool), np.diff(word) != 0])))
    return found


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens around a text and its pair, found out from the tokenizer.

    Args:
        single: before and after a text.
        pair: before a text, between it and its pair, and after that.
        types: whether the second text and what is after it are of type 1 (BERT), or all are of type 0.
    """

    single: tuple[list[int], list[int]]
    pair: tuple[list[int], list[int], list[int]]
    types: bool

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> Template:
        core = tokenizer.encode(["a"], special=False)[0]
        alone, both = tokenizer.encode(["a"])[0], tokenizer.encodings([("a", "a")])[0]
        size, first = len(core), _find(alone, core, 0)
        one = _find(both.ids, core, 0)
        other = _find(both.ids, core, one + size)
        return cls(
            (alone[:first], alone[first + size :]),
            (both.ids[:one], both.ids[one + size : other], both.ids[other + size :]),
            1 in both.type_ids,
        )

    def row(self, text: Ints, pair: Ints | None) -> tuple[list[int], list[int], int, int]:
        """Token numbers and types of a row, and where its text and its pair begin."""
        if pair is None:
            before, after = self.single
            return [*before, *text.tolist(), *after], [0] * (len(before) + len(text) + len(after)), len(before), 0
        before, between, after = self.pair
        first = [*before, *text.tolist(), *between]
        second = [*pair.tolist(), *after]
        return [*first, *second], [0] * len(first) + [int(self.types)] * len(second), len(before), len(first)

    @property
    def size(self) -> int:
        """Special tokens at most."""
        return max(sum(map(len, self.single)), sum(map(len, self.pair)))


def _find(row: Sequence[int], part: Sequence[int], start: int) -> int:
    return next(at for at in range(start, len(row) + 1) if list(row[at : at + len(part)]) == list(part))


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of spans before anything is hidden.

    Args:
        ids, types: of each row, special tokens among them.
        content: [rows, longest], whether a token is one of the text's.
        starts: [rows, longest], whether it begins a word.
        follows: [rows], 0 where the pair goes on where the text ends, 1 where it is another document's, -100 where
            there is no pair.
    """

    ids: list[list[int]]
    types: list[list[int]]
    content: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]
    follows: Ints


def rows_of(
    examples: Sequence[Span], draws: npt.NDArray[np.float64], template: Template, *, pairs: bool, max_length: int
) -> Rows:
    """Spans as rows; where `pairs`, those of two sentences or more as two texts, half of them of two documents.

    Args:
        draws: [examples, 3 or more], uniform numbers: where a span is divided, whether its second part is another's,
            and whose.
    """
    ids, types, places, follows = [], [], [], np.full(len(examples), -100, np.int64)
    for row, (each, draw) in enumerate(zip(examples, draws.tolist(), strict=True)):
        spans, parts, label = each.spans, [each.spans.whole(each.index)], -100
        if pairs and spans.bounds[each.index + 1] - spans.bounds[each.index] > 1:
            one, other = spans.parted(each.index, draw[0])
            elsewhere = spans.elsewhere(each.index, draw[2]) if draw[1] < 0.5 else None
            if elsewhere is not None:  # no longer than what a row holds, and parted as a true one is
                found = spans.parted(elsewhere, draw[0])[1]
                room = max_length - template.size - (one.stop - one.start)
                other = slice(found.start, min(found.stop, found.start + room))
            parts, label = [one, other], int(elsewhere is not None)
        texts = [spans.ids[part] for part in parts]
        made, kinds, *begins = template.row(texts[0], texts[1] if len(parts) > 1 else None)
        ids.append(made)
        types.append(kinds)
        places.append([(at, spans.starts[part]) for at, part in zip(begins, parts, strict=False)])
        follows[row] = label
    content = np.zeros((len(ids), max(map(len, ids), default=1)), bool)
    starts = np.zeros_like(content)
    for row, listed in enumerate(places):
        for at, begin in listed:
            content[row, at : at + len(begin)] = True
            starts[row, at : at + len(begin)] = begin
    return Rows(ids, types, content, starts, follows)


def draws_for(keys: Sequence[Key], max_length: int) -> npt.NDArray[np.float64]:
    """The uniform numbers of each visit, [keys, 3 + 3 max_length]: as many in any batch."""
    return uniforms(keys, _PER_ROW + _PER_TOKEN * max_length)


def hide(
    ids: Ints, rows: Rows, draws: npt.NDArray[np.float64], *, probability: float, whole_words: bool, mask: int,
    regular: Ints,
) -> tuple[Ints, npt.NDArray[np.bool_]]:  # fmt: skip
    """Tokens with some replaced, and which are to be told, both [rows, longest].

    In each row the tokens (words) with the smallest numbers are chosen, until they are `probability` of its tokens.

    Args:
        ids: [rows, longest].
        draws: as `draws_for` makes them.
        mask: what hides a token.
        regular: tokens that may stand for another one.
    """
    if not len(ids):
        return ids, np.zeros(ids.shape, bool)
    width = ids.shape[1]
    chance, how, what = (draws[:, _PER_ROW + part :: _PER_TOKEN][:, :width] for part in range(_PER_TOKEN))
    if whole_words:  # all tokens of a word have the number of its first
        first = np.maximum.accumulate(np.where(rows.starts, np.arange(width), 0), axis=1)
        chance = np.take_along_axis(chance, first, axis=1)
    chance = np.where(rows.content, chance, 2.0)
    wanted = np.maximum(1, np.round(probability * rows.content.sum(axis=1))).astype(np.int64)
    limit = np.take_along_axis(np.sort(chance, axis=1), wanted[:, None] - 1, axis=1)
    chosen = rows.content & (chance <= limit)
    other = regular[(what * len(regular)).astype(np.int64)]
    hidden = np.where(how < 0.8, mask, np.where(how < 0.9, other, ids))
    return np.where(chosen, hidden, ids), chosen
