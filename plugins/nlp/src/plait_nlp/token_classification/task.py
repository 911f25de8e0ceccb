"""What is learned of the words of a text: which of them name something, and what?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from plait.checking import data_fingerprint, shared
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.listing import Fault, Item, Listing, settle, several
from plait.options import DataOptions
from plait.splitting import Division, limited
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.examples import TextSplit
from plait_nlp.reading import Layout, TextOptions, list_texts, text_media
from plait_nlp.token_classification.conll import SUFFIXES, conll_reader
from plait_nlp.token_classification.evaluation import EntityEvaluator
from plait_nlp.token_classification.examples import TagPrediction, TokenExample, of_text, of_words
from plait_nlp.token_classification.tags import (
    as_iob2,
    detect_scheme,
    entities_of,
    fault_of,
    iob2_labels,
    parse_tag,
)

SUPPORTED = (
    f"a CoNLL file ({', '.join(SUFFIXES)}: a word and its tag a line, a blank line after a sentence) or a folder with"
    " train, valid and test of them, a JSONL or Parquet file with the columns tokens and tags (lists;"
    " data.fields renames them), a datasets directory, or a sequence of (tokens, tags)"
)


class TaggingOptions(TextOptions):
    """The recipe's `data` block for words with tags."""

    scheme: Literal["auto", "iob1", "iob2", "bioes", "lenient"] = "auto"
    """How tags say entities; auto: found out. A sequence that the scheme does not allow is an error, except for
    lenient, which reads it as conlleval and seqeval do: what continues nothing begins an entity."""
    word_column: int = 0
    """Where a line of a CoNLL file has its word, from 0; negative: from the end."""
    tag_column: int = -1
    """Where it has its tag."""
    types: tuple[str, ...] | None = Field(default=None, min_length=1)
    """What entities there are: ["person", "location"]; None: those of the training data."""


class TokenClassification(Task):
    """Entities in a text: tags for its words. Predictions are `TagPrediction`. It knows no model.

    Problems have "objective": "token-classification", "types" (of entities) and "labels" (the tags of IOB2 for them, O
    first), whatever scheme the data are in.
    """

    Options: ClassVar[type[DataOptions]] = TaggingOptions

    options: TaggingOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read words and tags, and divide them by sentences. See `SUPPORTED` for what a source may be.

        Raises:
            DataError: names files and lines and what to do: broken lines, tags that are none, sequences of tags that
                the scheme does not allow (all at once), types that training lacks.
        """
        given = list(problem["types"]) if problem is not None else list(self.options.types or ())
        if source is None:
            if not given:
                raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
            self._types = given
            return Splits(notes=("no data: the types of entities are given",))
        options = self.options
        reader = conll_reader(options.word_column, options.tag_column)
        media = text_media("sentence", supported=SUPPORTED, field="tokens")
        layout = Layout(media=media, required=("tokens", "tags"), formats=dict.fromkeys(SUFFIXES, reader))
        found = list_texts(source, layout=layout, options=options)
        listing = found.listing
        notes = [*found.notes, *self._checked(listing)]
        total = len(listing) + len(listing.faults)
        notes += settle(listing.faults, total=total, on_error=options.on_error, nouns="sentences")
        if not len(listing):
            raise DataError(f"no sentences in {_named(source)}", hint=f"expected {SUPPORTED}")
        division = Division(
            media=media, how=options.split, valid_fraction=options.valid_fraction, seed=self.seed,
            test_fraction=options.test_fraction, fixed=bool(given),
        )  # fmt: skip
        parts = division.of(listing.parts)
        self._types = given or _types_of(parts["train"])
        _check_types(parts, self._types, "the trained run" if problem is not None else "data.types" if given else "")
        parts = limited(parts, media=media, most=options.limit, seed=self.seed)
        splits = {name: TextSplit([each.content["example"] for each in items]) for name, items in parts.items()}
        notes += shared(splits, nouns="sentences", how="apart from case")
        columns = {
            "id": [each for part in splits.values() for each in part.ids],
            "split": [name for name, part in splits.items() for _ in range(len(part))],
        }
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _checked(self, listing: Listing) -> list[str]:
        """Turn rows into examples; what is wrong with one becomes a fault."""
        for split, items in listing.parts.items():
            kept = []
            for item in items:
                try:
                    _check_lists(item.content["tokens"], item.content["tags"])
                except _Wrong as wrong:
                    listing.faults.append(wrong.fault(item))
                else:
                    kept.append(item)
            listing.parts[split] = kept
        rows = [item.content["tags"] for items in listing.parts.values() for item in items]
        scheme = detect_scheme(rows) if self.options.scheme == "auto" else self.options.scheme
        hint = " (data.scheme is auto)" if self.options.scheme == "auto" else ""
        for split, items in listing.parts.items():
            kept = []
            for item in items:
                tags = item.content["tags"]
                fault = None if scheme == "lenient" else fault_of(tags, scheme)
                if fault is not None:
                    position, reason = fault
                    said = f"{reason}, read as {scheme.upper()}{hint}"
                    listing.faults.append(_Wrong(said, position).fault(item))
                    continue
                item.content["example"] = of_words(
                    item.content["tokens"], tags if scheme == "iob2" else as_iob2(tags), item.id
                )
                kept.append(item)
            listing.parts[split] = kept
        if len(listing.faults) and self.options.scheme == "auto" and self.options.on_error == "skip":
            return [f"the tags were read as {scheme.upper()}; data.scheme=lenient keeps sentences that break it"]
        return []

    def problem(self, splits: Splits) -> Problem:
        """See the class."""
        types = list(getattr(self, "_types", None) or self.options.types or ())
        return {"objective": "token-classification", "types": types, "labels": iob2_labels(types)}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return EntityEvaluator(problem["types"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> TokenExample:
        """An example from the port `text`: a text, which is divided into words, or a list of words.

        Raises:
            InputError: it is missing, empty, or neither.
        """
        unknown = [name for name in inputs if name != "text"]
        if unknown:
            raise InputError(f"there is no input {unknown[0]!r}", hint=did_you_mean(unknown[0], ["text"]))
        value = inputs.get("text")
        if isinstance(value, TokenExample):
            return value
        if isinstance(value, str):
            example = of_text(value)
            if not example.spans:
                raise InputError("the text is empty")
            return example
        if not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
            raise InputError(
                f"text is {type(value).__name__}, neither a text nor words", hint="give a str, or a list of words"
            )
        if not value or not all(each.strip() for each in value):
            raise InputError("there is no word" if not value else "one of the words is empty")
        return of_words(list(value))

    def present(self, prediction: TagPrediction, problem: Problem) -> Prediction:
        """The entities in their order: each `text`, `type`, characters `start` to `end`, `words` from the first to
        beyond the last, and `score`, the mean probability of its words' tags."""
        example, found = prediction.example, []
        for each in entities_of(prediction.tags):
            start, end = example.spans[each.first][0], example.spans[each.end - 1][1]
            score = float(np.mean(prediction.scores[each.first : each.end]))
            found.append(
                {
                    "text": example.text[start:end], "type": each.type, "start": start, "end": end,
                    "words": [each.first, each.end], "score": round(score, 6),
                }
            )  # fmt: skip
        return Prediction(prediction=found, outputs={"entities": found})


class _Wrong(ValueError):
    """What is wrong with a sentence, and with which of its words."""

    def __init__(self, reason: str, word: int | None = None) -> None:
        super().__init__(reason)
        self.word = word

    def fault(self, item: Item) -> Fault:
        """The same with its place: of a CoNLL file the line of the word."""
        lines = item.content.get("lines")
        if self.word is None:
            return Fault(item.where, str(self))
        if lines is None:
            return Fault(item.where, f"word {self.word}: {self}")
        return Fault(f"{str(item.where).rpartition(':')[0]}:{lines[self.word]}", str(self))


def _check_lists(words: Any, tags: Any) -> None:
    """Refuse a row that is not two lists of texts of one length.

    Raises:
        _Wrong: says what it is.
    """
    for name, values in (("tokens", words), ("tags", tags)):
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise _Wrong(f"has {name} that are {type(values).__name__}, not a list: {values!r:.60}")
        for position, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                what = "empty" if isinstance(value, str) else f"{type(value).__name__} {value!r:.40}, not a text"
                raise _Wrong(f"{name}[{position}] is {what}")
    if len(words) != len(tags):
        raise _Wrong(f"has {len(words)} tokens and {len(tags)} tags")
    if not words:
        raise _Wrong("has no tokens")
    for position, tag in enumerate(tags):
        try:
            parse_tag(tag)
        except ValueError as error:
            raise _Wrong(f"{tag!r} is no tag: {error}", position) from error


def _types_of(items: Sequence[Item]) -> list[str]:
    found = {tag[2:] for item in items for tag in item.content["example"].tags if tag != "O"}
    if not found:
        raise DataError("no training sentence has an entity: every tag is O", hint="is data.tag_column the tags'?")
    return sorted(found)


def _check_types(parts: Mapping[str, Sequence[Item]], types: Sequence[str], given: str) -> None:
    """Refuse types that are not among those that the model is to know.

    Raises:
        DataError: names the first place of one.
    """
    for split, items in parts.items():
        for item in items:
            for position, tag in enumerate(item.content["example"].tags):
                if tag != "O" and tag[2:] not in types:
                    lacking = given or "the training data"
                    place = _Wrong(
                        f"has the type {tag[2:]!r} ({split}), which is not among those of {lacking}", position
                    )
                    raise DataError(
                        str(place.fault(item)),
                        hint=did_you_mean(tag[2:], types)
                        or f"known are {several(map(repr, types))}; data.types states them",
                    )


def _named(source: Any) -> str:
    return str(source) if isinstance(source, str) or hasattr(source, "suffix") else "the data"
