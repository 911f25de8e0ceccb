"""What is learned of pairs of texts: how is one translated, or summarized?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from plait.checking import data_fingerprint, shared
from plait.data import named_parts
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.listing import Fault, Item, Listing, Media, settle
from plait.options import DataOptions
from plait.splitting import Division, limited
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.documents import split_sentences
from plait_nlp.examples import TextSplit
from plait_nlp.reading import Layout, TextListing, TextOptions, list_texts, text_media
from plait_nlp.sequence_to_sequence.bleu import TranslationEvaluator, WordRule
from plait_nlp.sequence_to_sequence.examples import SequenceExample, WrittenText
from plait_nlp.sequence_to_sequence.parallel import ParallelFiles, is_path
from plait_nlp.sequence_to_sequence.rouge import SummaryEvaluator

_TABLES = (
    "a CSV, TSV, JSONL or Parquet file (or a folder with train, valid and test of them) with the columns source and"
    " target (data.fields renames them; a list of targets are several references), a datasets directory, or a sequence"
)


class TranslationOptions(TextOptions):
    """The recipe's `data` block for translation."""

    languages: tuple[str, str] | None = None
    """Of parallel files: the endings of those that are translated, and of their translations: ["en", "de"]."""
    files: dict[Literal["train", "valid", "test"], str] = Field(default_factory=dict)
    """Of parallel files: what a split's file names begin with, where not with its own name: {test: newstest2014}."""
    bleu_tokens: WordRule = "13a"
    """How sacreBLEU parts words: 13a (most languages), intl, char, zh, or none (texts that are tokenized already)."""


class SequenceTask(Task):
    """A text that is written for a text. It knows no model. A subclass says which texts, and how they are judged.

    Problems have "objective": "sequence-to-sequence", "kind": "translation" or "summarization", and "characters", the
    medians of the training texts and of what is written for them.
    """

    Options: ClassVar[type[DataOptions]] = TextOptions
    kind: ClassVar[str]
    supported: ClassVar[str] = _TABLES

    options: TextOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read pairs of texts, and divide them. See `supported` for what a source may be.

        Raises:
            DataError: names files and lines and what to do: unreadable data, missing columns, empty texts, parallel
                files of different lengths.
        """
        if source is None:
            raise DataError("no data are given", hint=f"data.source: {self.supported}")
        media = text_media("pair", supported=self.supported, field="source", target="target")
        found = self._list(source, media)
        listing = found.listing
        total = len(listing) + len(listing.faults)
        contents = self._contents(listing)
        notes = [*found.notes, *settle(listing.faults, total=total, on_error=self.options.on_error, nouns="pairs")]
        if not contents:
            given = source if isinstance(source, str | Path) else "the data"
            raise DataError(f"no pairs of texts in {given}", hint=f"expected {self.supported}")
        options = self.options
        division = Division(
            media=media, how=options.split, valid_fraction=options.valid_fraction, seed=self.seed,
            test_fraction=options.test_fraction, fixed=problem is not None,
        )  # fmt: skip
        parts = limited(division.of(listing.parts), media=media, most=options.limit, seed=self.seed)
        splits = {name: TextSplit([contents[each.id] for each in items]) for name, items in parts.items()}
        notes += shared(splits, nouns="texts", how="apart from case and spaces")
        columns = {
            "id": [each for part in splits.values() for each in part.ids],
            "split": [name for name, part in splits.items() for _ in range(len(part))],
        }
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _list(self, source: Any, media: Media) -> TextListing:
        return list_texts(source, layout=Layout(media=media, required=("source", "target")), options=self.options)

    def _contents(self, listing: Listing) -> dict[str, SequenceExample]:
        """The sound examples by id; the listing keeps their rows only."""
        contents = {}
        for split, items in listing.parts.items():
            kept = []
            for item in items:
                made = self._example(item)
                if isinstance(made, str):
                    listing.faults.append(Fault(item.where, made))
                else:
                    contents[item.id] = made
                    kept.append(item)
            listing.parts[split] = kept
        return contents

    def _example(self, item: Item) -> SequenceExample | str:
        """An example of a row, or what is wrong with it."""
        try:
            text, sentences = self.whole(item.content["source"])
        except ValueError as error:
            return f"has a source that {error}"
        target = item.content["target"]
        references = [target] if isinstance(target, str) else target
        if not isinstance(references, Sequence):
            return f"has a target that is {type(target).__name__}, not a text or a list of texts"
        wrong = next((each for each in references if not isinstance(each, str) or not each.strip()), None)
        if wrong is not None or not references:
            return f"has a reference that is {wrong!r:.60}" if references else "has no reference"
        return SequenceExample(text, None, tuple(references), item.id, sentences)

    def whole(self, value: Any) -> tuple[str, tuple[str, ...]]:
        """A text, and its sentences where they are listed.

        Raises:
            ValueError: says what it is instead.
        """
        if not isinstance(value, str):
            raise ValueError(f"is {type(value).__name__}, not a text")
        if not value.strip():
            raise ValueError("is empty")
        return value, ()

    def problem(self, splits: Splits) -> Problem:
        """See the class."""
        seen = next((part for name in splits.names() if isinstance(part := splits[name], TextSplit)), None)
        examples: Any = list(seen) if seen is not None else []
        lengths = {
            "source": [len(each.text) for each in examples], "target": [len(each.references[0]) for each in examples]
        }  # fmt: skip
        medians = {name: int(np.median(values)) if values else 100 for name, values in lengths.items()}
        return {"objective": "sequence-to-sequence", "kind": self.kind, "characters": medians}

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> SequenceExample:
        """An example from the port `text`.

        Raises:
            InputError: it is missing, empty, or no text.
        """
        unknown = [name for name in inputs if name != "text"]
        if unknown:
            raise InputError(f"there is no input {unknown[0]!r}", hint=did_you_mean(unknown[0], ["text"]))
        value = inputs.get("text")
        if isinstance(value, SequenceExample):
            return value
        try:
            text, sentences = self.whole(value)
        except ValueError as error:
            raise InputError(f"the text {error}") from error
        return SequenceExample(text, sentences=sentences)

    def present(self, prediction: WrittenText, problem: Problem) -> Prediction:
        """The text; scores are the log-probability of a token (nats), and how many tokens of the input were cut."""
        scores = {} if prediction.log_probability is None else {"log_probability": float(prediction.log_probability)}
        if prediction.cut:
            scores["tokens_cut"] = float(prediction.cut)
        return Prediction(prediction=prediction.text, scores=scores or None, outputs={"text": prediction.text})


class Translation(SequenceTask):
    """A sentence in another language. Predictions are `WrittenText`."""

    Options: ClassVar[type[DataOptions]] = TranslationOptions
    kind: ClassVar[str] = "translation"
    supported: ClassVar[str] = f"two parallel files (train.en and train.de, with data.languages), {_TABLES}"

    options: TranslationOptions

    def _list(self, source: Any, media: Media) -> TextListing:
        """Parallel files, and whatever else `list_texts` reads."""
        options = self.options
        files = ParallelFiles(
            media=media, languages=options.languages, encoding=options.encoding,
            files={str(split): stem for split, stem in options.files.items()},
        )  # fmt: skip
        if is_path(source):
            path = Path(source)
            return files.listing(path) if files.holds(path) else super()._list(path, media)
        if not isinstance(source, Mapping):
            return super()._list(source, media)
        found = TextListing(Listing(media))
        for split, part in named_parts(source).items():
            parallel = is_path(part) and files.holds(Path(part))
            one = files.listing(Path(part), split) if parallel else super()._list({split: part}, media)
            for name, items in one.listing.parts.items():
                found.listing.parts.setdefault(name, []).extend(items)
            found.listing.faults += one.listing.faults
            found.notes += one.notes
        found.listing.make_ids_unique()
        return found

    def problem(self, splits: Splits) -> Problem:
        """See `SequenceTask`, and "bleu_tokens"."""
        return {**super().problem(splits), "bleu_tokens": self.options.bleu_tokens}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return TranslationEvaluator(problem["bleu_tokens"])


class Summarization(SequenceTask):
    """A short text that says what a long one says. Predictions are `WrittenText`."""

    kind: ClassVar[str] = "summarization"
    supported: ClassVar[str] = f"{_TABLES}; a source may be a list of sentences"

    def whole(self, value: Any) -> tuple[str, tuple[str, ...]]:
        if isinstance(value, str):
            return super().whole(value)
        if not isinstance(value, Sequence) or isinstance(value, bytes):
            raise ValueError(f"is {type(value).__name__}, not a text or a list of sentences")
        sentences = split_sentences(value)
        if isinstance(sentences, str):  # what is wrong with them
            raise ValueError(sentences)
        return " ".join(sentences), sentences

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return SummaryEvaluator()
