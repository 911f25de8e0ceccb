"""What is learned of a text from its beginning to its end: how probable is what comes next?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from plait.checking import shared
from plait.data import fingerprint
from plait.errors import DataError, InputError
from plait.evaluation import Evaluator
from plait.options import DataOptions
from plait.predictor import named
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.architectures.tokenizers import whole_text
from plait_nlp.language_modelling.corpus import Corpus, Piece, Pieces
from plait_nlp.language_modelling.evaluation import LanguageEvaluator
from plait_nlp.language_modelling.predictions import OBJECTIVE, TextScore
from plait_nlp.language_modelling.sources import SUPPORTED, LanguageOptions, read_texts

_COMPARED = 200_000  # documents that are compared between splits


class CausalLanguageModelling(Task):
    """The probability of a text, token after token. Examples are `Piece`, predictions `TextScore`. It knows no tokens.

    Problems have "objective": "causal-language-modelling" and "piece", the bytes of an example.
    """

    Options: ClassVar[type[DataOptions]] = LanguageOptions

    options: LanguageOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read text and divide it by position. See `read_texts` for what a source may be.

        Raises:
            DataError: names file and line and what to do: nothing to read, no text, bytes that are no text, no train.
        """
        if source is None:
            raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
        options = self.options
        found = read_texts(source, options)
        parts = self._divided(found.parts, trained=problem is not None)
        splits, notes = {}, list(found.notes)
        for name, corpus in parts.items():
            pieces = Pieces(corpus, size=options.piece, context=options.context)
            if options.limit is not None:
                pieces = pieces.first(options.limit)
            if len(pieces):
                splits[name] = pieces
            else:
                notes.append(f"{name} is empty: the text is too short to divide")
        notes += shared(
            {name: _Documents.of(each) for name, each in splits.items() if each.corpus.documents > 1},
            nouns="documents", how="byte for byte",
        )  # fmt: skip
        names = pa.array([name for name, part in splits.items() for _ in range(len(part))], pa.string())
        ids = pa.array([each for part in splits.values() for each in part.ids], pa.string())
        seen = [value for name in ("train", "valid") if name in splits for value in (name, *splits[name].fingerprint())]
        return Splits(
            **splits, fingerprint=fingerprint([options.piece, *seen]), index=pa.table({"id": ids, "split": names}),
            notes=tuple(notes),
        )  # fmt: skip

    def _divided(self, parts: Mapping[str, Corpus], *, trained: bool) -> dict[str, Corpus]:
        options = self.options
        named_ones = {name: part for name, part in parts.items() if name}
        if options.split == "given" and not named_ones:
            raise DataError(
                "data.split=given, but the data name no splits", hint="name files train, valid and test, or set auto"
            )
        if options.split == "position" or not named_ones:
            if len(parts) > 1:
                raise DataError(
                    f"data.split=position, but the data are in {len(parts)} parts", hint="give one file, or set auto"
                )
            valid, test = options.valid_fraction, options.test_fraction
            if valid + test >= 1:
                raise DataError(f"data.valid_fraction={valid} and data.test_fraction={test} leave nothing to train on")
            whole = next(iter(parts.values()))
            cut = dict(zip(("train", "valid", "test"), whole.divided((1 - valid - test, 1 - test)), strict=True))
            return {name: part for name, part in cut.items() if name == "train" or {"valid": valid, "test": test}[name]}
        if "train" not in named_ones and not trained:
            raise DataError(f"there is no train; the data have {', '.join(named_ones)}", hint="name one file train")
        if options.split == "auto" and "train" in named_ones and "valid" not in named_ones and options.valid_fraction:
            train, valid_part = named_ones["train"].divided((1 - options.valid_fraction,))
            named_ones |= {"train": train, "valid": valid_part}
        return {name: named_ones[name] for name in ("train", "valid", "test") if name in named_ones}

    def problem(self, splits: Splits) -> Problem:
        """See the class."""
        return {"objective": OBJECTIVE, "piece": self.options.piece}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return LanguageEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Piece:
        """A text as it would begin a document.

        Raises:
            InputError: it is no text, or empty.
        """
        text = named(inputs, {"text": "text"})["text"]
        if isinstance(text, Piece):
            return text
        if not isinstance(text, str):
            raise InputError(f"text is {type(text).__name__}, not a text", hint="give a str")
        if not text:
            raise InputError("the text is empty")
        return Piece(whole_text(text))

    def present(self, prediction: TextScore, problem: Problem) -> Prediction:
        """Bits per byte; the score is the log-probability of the whole text in nats."""
        bits = prediction.nats / max(1, prediction.size) / math.log(2)
        return Prediction(
            prediction=bits, scores={"log_probability": -prediction.nats}, outputs={"bits_per_byte": bits}
        )


@dataclass(slots=True)
class _Documents:
    """The documents of a split, as `plait.checking.shared` sees them."""

    ids: list[str]
    digests: list[str]
    targets: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, pieces: Pieces) -> _Documents:
        pairs = [pair for pair, _ in zip(pieces.document_digests(), range(_COMPARED), strict=False)]
        return cls([name for name, _ in pairs], [each for _, each in pairs], [""] * len(pairs))
