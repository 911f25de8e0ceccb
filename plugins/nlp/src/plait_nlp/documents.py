"""Which documents, as sequences of sentences, does a source of running text hold?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from plait.checking import data_fingerprint, shared
from plait.data import digest
from plait.errors import DataError
from plait.listing import Fault, Item, settle
from plait.splitting import Division, limited
from plait_nlp.reading import Layout, TextOptions, list_texts, text_media

SUPPORTED = (
    "a .txt file whose documents are parted by blank lines (a sentence a line), a CSV, TSV, JSONL or Parquet file with"
    " the column text, which holds a document or a list of its sentences (data.fields renames it), a folder with train,"
    " valid and test of them, a datasets directory, or a sequence of documents"
)
_END = re.compile(
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+(?=[\"'“‘(\[]?[^\W_a-z])|(?<=[。！？])\s*"  # Chinese stops
)


class DocumentOptions(TextOptions):
    """What the `data` block of tasks on running text has."""

    sentences: Literal["auto", "lines", "punctuation"] = "auto"
    """What parts the sentences of a document that is no list of them: the ends of its lines, or punctuation before
    capital letters. auto: lines, where there are several, else punctuation."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text as its sentences, none of them blank.

    Args:
        id: of the row.
    """

    sentences: tuple[str, ...]
    id: str = ""


class Examples(Sequence[Any]):
    """Examples of text in memory, as `plait.checking` sees a split. It knows no file.

    Args:
        examples: each with an `id`.
        texts: what two splits must not share, one for each example.
    """

    in_memory = True

    def __init__(self, examples: Iterable[Any], texts: Iterable[str]) -> None:
        self.examples = list(examples)
        self.ids = [str(each.id) for each in self.examples]
        self.targets = [""] * len(self.examples)
        self.digests = [digest(_normal(text).encode("utf-8", "surrogatepass")) for text in texts]
        """Equal where the texts are, apart from case and spaces."""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        return self.examples[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What a source holds, divided.

    Args:
        parts: the documents of train, valid and test, as far as there are any.
        fingerprint: of what training sees.
        index: one row a document, columns `id` and `split`.
        notes: what a reader must know.
    """

    parts: Mapping[str, Sequence[Document]]
    fingerprint: str
    index: pa.Table
    notes: tuple[str, ...]


def read_documents(source: Any, *, options: DocumentOptions, seed: int, fixed: bool) -> Documents:
    """Read a source's documents and divide them.

    Args:
        source: see `SUPPORTED`; from Python, a document is a text, or a list of its sentences.
        fixed: whether a fitted model is to be judged, so that there may be no train.

    Raises:
        DataError: names files and lines and what to do: unreadable data, a missing column, empty documents.
    """
    media = text_media("document", supported=SUPPORTED)
    layout = Layout(media=media, required=("text",), paragraphs=True)
    found = list_texts(_by_field(source), layout=layout, options=options)
    listing = found.listing
    total = len(listing) + len(listing.faults)
    made: dict[str, list[Item]] = {}
    contents: dict[str, Document] = {}
    for split, items in listing.parts.items():
        for item in items:
            sentences = split_sentences(item.content["text"], options.sentences)
            if isinstance(sentences, str):
                listing.faults.append(Fault(item.where, sentences))
                continue
            contents[item.id] = Document(sentences, item.id)
            made.setdefault(split, []).append(item)
    notes = [*found.notes, *settle(listing.faults, total=total, on_error=options.on_error, nouns="documents")]
    if not contents:
        raise DataError(
            f"no documents in {source if isinstance(source, str) else 'the data'}", hint=f"expected {SUPPORTED}"
        )
    division = Division(
        media=media, how="random" if options.split == "stratified" else options.split, seed=seed,
        valid_fraction=options.valid_fraction, test_fraction=options.test_fraction, fixed=fixed,
    )  # fmt: skip
    drawn = limited(division.of(made), media=media, most=options.limit, seed=seed)
    parts = {name: [contents[item.id] for item in items] for name, items in drawn.items()}
    checked = {name: Examples(part, ("\n".join(each.sentences) for each in part)) for name, part in parts.items()}
    notes += shared(checked, nouns="documents", how="apart from case and spaces")
    columns = {
        "id": [each.id for part in parts.values() for each in part],
        "split": [name for name, part in parts.items() for _ in part],
    }
    index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return Documents(parts=parts, fingerprint=data_fingerprint(checked), index=index, notes=tuple(notes))


def split_sentences(content: Any, how: Literal["auto", "lines", "punctuation"] = "auto") -> tuple[str, ...] | str:
    """The sentences of a document, outer spaces dropped; a text that says what is wrong with it, where it has none."""
    if isinstance(content, str):
        lines = [line for line in content.splitlines() if line.strip()]
        by_line = how == "lines" or (how == "auto" and len(lines) > 1)
        content = lines if by_line else _END.split(content)
    wrong = next((each for each in content if each is not None and not isinstance(each, str)), None)
    if wrong is not None:
        return f"has a sentence that is no text, but {type(wrong).__name__}: {wrong!r:.60}"
    kept = tuple(each.strip() for each in content if each is not None and each.strip())
    return kept or "has no sentence"


def _by_field(source: Any) -> Any:
    """A Python sequence whose documents may be lists of sentences, as rows by field; anything else as it is."""
    if isinstance(source, Mapping):
        return {split: _by_field(part) for split, part in source.items()}
    if isinstance(source, list | tuple) and any(isinstance(each, list | tuple) for each in source):
        return [{"text": list(each)} if isinstance(each, list | tuple) else each for each in source]
    return source


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())
