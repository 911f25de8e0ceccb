"""What is learned: vectors by which a text's answer, translation or paraphrase is found among many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.checking import data_fingerprint, shared
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.listing import settle
from plait.options import DataOptions
from plait.splitting import Division, limited
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.examples import TextExample, TextSplit
from plait_nlp.reading import Layout, TextOptions, list_texts, text_media
from plait_nlp.sentence_embedding.evaluation import RetrievalEvaluator

SUPPORTED = (
    "a CSV, TSV, JSONL or Parquet file (or a folder with train, valid and test of them) with the columns text and pair,"
    " which belong together (data.fields renames them), a datasets directory, or a sequence of (text, pair)"
)


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a model makes of an example.

    Args:
        text: [width], of length one.
        pair: the same of what belongs to it; None where the example has none.
    """

    text: npt.NDArray[np.floating[Any]]
    pair: npt.NDArray[np.floating[Any]] | None = None


class SentenceEmbedding(Task):
    """A vector for a text, near those of the texts that belong to it. It knows no model.

    Examples are `TextExample` with a pair, predictions `Vectors`; judged by finding each text's pair among all pairs of
    the split.
    """

    Options: ClassVar[type[DataOptions]] = TextOptions

    options: TextOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read pairs of texts that belong together, and divide them. See `list_texts` for what a source may be.

        Raises:
            DataError: names files and lines: unreadable data, missing columns, empty texts.
        """
        if source is None:
            return Splits(notes=("no data: for models that need none",))
        media = text_media("text pair", supported=SUPPORTED)
        found = list_texts(source, layout=Layout(media=media, required=("text", "pair")), options=self.options)
        listing, options = found.listing, self.options
        total = len(listing) + len(listing.faults)
        notes = [*found.notes, *settle(listing.faults, total=total, on_error=options.on_error, nouns="text pairs")]
        if not len(listing):
            raise DataError("there is no pair of texts in the data", hint=f"expected {SUPPORTED}")
        division = Division(
            media=media, how="random" if options.split == "stratified" else options.split, seed=self.seed,
            valid_fraction=options.valid_fraction, test_fraction=options.test_fraction, fixed=problem is not None,
        )  # fmt: skip
        parts = limited(division.of(listing.parts), media=media, most=options.limit, seed=self.seed)
        splits = {
            name: TextSplit(
                [TextExample(str(each.content["text"]), str(each.content["pair"]), None, each.id) for each in items]
            )
            for name, items in parts.items()
        }
        notes += shared(splits, nouns="text pairs", how="apart from case and spaces")
        columns = {
            "id": [each for part in splits.values() for each in part.ids],
            "split": [name for name, part in splits.items() for _ in range(len(part))],
        }
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def problem(self, splits: Splits) -> Problem:
        """{"objective": "sentence-embedding"}."""
        return {"objective": "sentence-embedding"}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return RetrievalEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> TextExample:
        """An example from the port `text`.

        Raises:
            InputError: it is missing, empty, or no text.
        """
        if set(inputs) != {"text"}:
            unknown = next((name for name in inputs if name != "text"), None)
            raise InputError(
                f"there is no input {unknown!r}" if unknown else "the input 'text' is missing",
                hint=did_you_mean(unknown, ["text"]) if unknown else None,
            )
        value = inputs["text"]
        if isinstance(value, TextExample):
            return value
        if not isinstance(value, str):
            raise InputError(f"text is {type(value).__name__}, not a text", hint="give a str")
        if not value.strip():
            raise InputError("the text is empty")
        return TextExample(value)

    def present(self, prediction: Vectors, problem: Problem) -> Prediction:
        """The vector, as a list of numbers, and as an array on the port `embedding`."""
        vector = np.asarray(prediction.text, np.float32)
        return Prediction(prediction=[float(each) for each in vector], outputs={"embedding": vector})
