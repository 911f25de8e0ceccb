"""What is a passage with hidden words, and which words of a document are hidden when a model is judged?"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plait_nlp.documents import Document

MASK = "[MASK]"
"""What stands for a hidden word in a user's text, whatever a model's own sign for it is."""
_WORD = re.compile(r"(?<![\w'’])\w+(?![\w'’])")  # a typographic apostrophe
# parts of don't are no words of their own: tokenizers divide it in different places
_MARK = re.compile(r"\[MASK\]|<mask>")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, perhaps with a second one, and words of them that are hidden.

    Args:
        text, pair: as written; what is to be told stands in them, or `MASK` does.
        spans: of hidden words: (0 for the text or 1 for the pair, first character, end), in order.
        answers: the hidden words; None where they are to be predicted.
        follows: whether the pair goes on where the text ends; None where that is not known, or there is no pair.
        id: of the document, and the passage's number in it.
    """

    text: str
    pair: str | None = None
    spans: tuple[tuple[int, int, int], ...] = ()
    answers: tuple[str, ...] | None = None
    follows: bool | None = None
    id: str = ""

    @property
    def size(self) -> int:
        """Characters of both texts."""
        return len(self.text) + len(self.pair or "")


def marked(text: str, pair: str | None = None) -> Passage:
    """A passage whose hidden words are written `[MASK]` or `<mask>`."""
    found: list[tuple[int, int, int]] = []
    for which, part in enumerate((text, pair or "")):
        found += [(which, match.start(), match.end()) for match in _MARK.finditer(part)]
    return Passage(text, pair, tuple(found))


def passages_of(documents: Sequence[Document], *, words: int, fraction: float, next_sentence: bool) -> list[Passage]:
    """Consecutive sentences of documents, with hidden words that depend on their text alone: the same for every model,
    seed and tokenizer. Passages without a word that could be hidden are left out.

    Args:
        words: at most, in a passage; a longer sentence is divided.
        fraction: of a passage's words that are hidden; at least one is.
        next_sentence: passages of two sentences or more are divided where two of them meet, and half of them get the
            second part of another document's.
    """
    parts = [(document, chosen) for document in documents for chosen in _parted(document, words)]
    several = [index for index, (_, chosen) in enumerate(parts) if len(chosen) > 1]
    found, numbers = [], dict.fromkeys((document.id for document in documents), 0)
    for document, chosen in parts:
        whole = " ".join(chosen)
        generator = np.random.default_rng(zlib.crc32(whole.encode("utf-8", "surrogatepass")))
        text, pair, follows = whole, None, None
        if next_sentence and len(chosen) > 1:
            text, pair, follows = _paired(document, chosen, parts, several, generator)
        passage = _hidden(text, pair, follows, fraction, generator, f"{document.id}/{numbers[document.id]}")
        if passage is not None:
            found.append(passage)
            numbers[document.id] += 1
    return found


def _paired(
    document: Document, chosen: Sequence[str], parts: Sequence[tuple[Document, Sequence[str]]], several: Sequence[int],
    generator: np.random.Generator,
) -> tuple[str, str, bool]:  # fmt: skip
    """The first half of the sentences; the second half, or another document's; and which it is."""
    half, follows = len(chosen) // 2, bool(generator.random() < 0.5)
    pair = chosen[half:]
    if not follows:
        for place in generator.integers(len(several), size=20).tolist():
            other, sentences = parts[several[place]]
            if other is not document:
                pair = sentences[len(sentences) // 2 :]
                break
        else:  # there is no other document
            follows = True
    return " ".join(chosen[:half]), " ".join(pair), follows


def _hidden(
    text: str, pair: str | None, follows: bool | None, fraction: float, generator: np.random.Generator, id_: str
) -> Passage | None:
    every = [(which, *match.span()) for which, part in enumerate((text, pair or "")) for match in _WORD.finditer(part)]
    if not every:
        return None
    count = max(1, round(fraction * len(every)))
    spans = tuple(every[index] for index in sorted(generator.choice(len(every), size=count, replace=False).tolist()))
    answers = tuple((text, pair or "")[which][start:end] for which, start, end in spans)
    return Passage(text, pair, spans, answers, follows, id_)


def _parted(document: Document, words: int) -> Iterator[list[str]]:
    """Runs of a document's sentences of at most so many words."""
    run: list[str] = []
    held = 0
    for sentence in document.sentences:
        pieces = sentence.split()
        for first in range(0, len(pieces), words):
            piece = pieces[first : first + words]
            if run and held + len(piece) > words:
                yield run
                run, held = [], 0
            run.append(" ".join(piece))
            held += len(piece)
    if run:
        yield run
