"""What does a recogniser write with: units, language model, word list, and which search?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from plait.errors import IntegrityError, RecipeError
from plait.options import AFTERWARDS, Options
from plait.task import Problem, Split
from plait_speech.audio import Utterance
from plait_speech.decoding.arpa import read_arpa
from plait_speech.decoding.ngram import Ngram
from plait_speech.decoding.search import GreedySearch, PrefixBeamSearch, Search
from plait_speech.decoding.words import WordList, read_words
from plait_speech.networks.units import BLANK, UnitKind, Units


class Decoding(Options):
    """How a recogniser finds its text: the block `model.decoding`."""

    search: Literal["greedy", "beam", "flashlight"] = Field(default="greedy", json_schema_extra=AFTERWARDS)
    """greedy: the most probable unit of each frame; beam: prefix beam search; flashlight: that of flashlight-text,
    faster with large word lists, where it is installed."""
    beam: int = Field(default=16, ge=1, json_schema_extra=AFTERWARDS)
    """Texts that a beam search keeps after each frame."""
    ngram: int | None = Field(default=None, ge=1, le=6)
    """Fit a language model of this order (2: pairs of words) on the training transcripts; None: no such model."""
    language_model: str | None = None
    """An ARPA file with a word language model in the transcripts' spelling; it is copied into the run."""
    language_weight: float = Field(default=0.5, ge=0, json_schema_extra=AFTERWARDS)
    """How much the language model counts beside the sound."""
    word_bonus: float = Field(default=0.0, json_schema_extra=AFTERWARDS)
    """Nats that each word adds, against the short texts that a language model likes."""
    word_list: str | None = None
    """A file with a word a line, the only ones to be written; it is copied into the run."""
    known_words: bool = False
    """Write words of the training transcripts only."""

    @field_validator("language_model", "word_list")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        # a recipe makes the paths of its first level absolute itself, and knows of none below
        return str(Path(path).resolve()) if path is not None and Path(path).exists() else path

    @model_validator(mode="after")
    def _consistent(self) -> Decoding:
        if self.ngram is not None and self.language_model is not None:
            raise ValueError("ngram fits a language model, language_model reads one: choose one")
        if self.known_words and self.word_list is not None:
            raise ValueError("known_words and word_list both say which words may be written: choose one")
        return self

    def unused(self) -> list[str]:
        """A note on what is fitted or read, and does not count in the search that is chosen."""
        ours = ["language model"] * (self.ngram is not None or self.language_model is not None)
        words = ["word list"] * (self.known_words or self.word_list is not None)
        left = {"greedy": ours + words, "flashlight": ours, "beam": []}[self.search]
        if not left:
            return []
        return [f"{self.search} search uses no {' and no '.join(left)}; model.decoding.search=beam does, now or later"]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The written side of a recogniser, fitted once and saved with it. It knows no sound.

    Args:
        units: what the outputs stand for.
        language: a language model of words, if any.
        words: the only words that may be written; None: any.
    """

    units: Units
    language: Ngram | None = None
    words: tuple[str, ...] | None = None

    @classmethod
    def fitted(cls, kind: UnitKind, decoding: Decoding, *, problem: Problem, train: Split | None) -> Self:
        """What the options ask for, from the training transcripts where those are needed.

        Raises:
            RecipeError: training transcripts are needed, and there are none.
            DataError: a file cannot be read.
        """
        needs = [
            name
            for name, needed in (
                ("units=words", kind == "words"),
                ("decoding.ngram", decoding.ngram is not None),
                ("decoding.known_words", decoding.known_words),
            )
            if needed
        ]
        if needs and train is None:
            raise RecipeError(f"model.{needs[0]} is fitted on training transcripts", hint="name training data")
        texts = transcripts(train) if needs and train is not None else []
        units = Units.of(kind, alphabet=problem["alphabet"], texts=texts)
        language, words = None, None
        if decoding.ngram is not None:
            language = Ngram.fitted([text.split() for text in texts], order=decoding.ngram)
        elif decoding.language_model is not None:
            language = read_arpa(Path(decoding.language_model))
        if decoding.known_words:
            words = WordList(word for text in texts for word in text.split()).words
        elif decoding.word_list is not None:
            words = read_words(Path(decoding.word_list)).words
        return cls(units=units, language=language, words=words)

    def search(self, decoding: Decoding) -> Search:
        """A search for one text."""
        if decoding.search == "greedy":
            return GreedySearch()
        words = None if self.words is None else WordList(self.words)
        if decoding.search == "flashlight":
            from plait_speech.decoding.flashlight import FlashlightSearch

            return FlashlightSearch(self.units, beam=decoding.beam, bonus=decoding.word_bonus, words=words)
        return PrefixBeamSearch(
            self.units, beam=decoding.beam, language=self.language, weight=decoding.language_weight,
            bonus=decoding.word_bonus, words=words,
        )  # fmt: skip

    def targets(self, examples: Sequence[Utterance], *, training: bool) -> dict[str, Tensor]:
        """The numbers of each text.

        Returns:
            "targets", int64 [batch, units], filled up with blanks, and "target_lengths", int64 [batch]; nothing where
            an example has no text.

        Raises:
            RecipeError: a training transcript has units that this has not: it is from another run.
        """
        if any(example.text is None for example in examples):
            return {}
        rows = []
        for example in examples:
            numbers, unknown = self.units.encode(example.text or "")
            if unknown and training:
                kind = self.units.kind.removesuffix("s")
                raise RecipeError(
                    f"the transcript of {example.id!r} has the {kind} {unknown[0]!r}, which this model cannot write",
                    hint="a run that starts from another (model.from) has that one's units; train anew without it",
                )
            rows.append(numbers)
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        filled = torch.full((len(rows), int(lengths.max()) if rows else 0), BLANK, dtype=torch.int64)
        for row, numbers in zip(filled, rows, strict=True):
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return {"targets": filled, "target_lengths": lengths}

    def as_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "units": self.units.as_json(),
            "language": None if self.language is None else self.language.as_json(),
            "words": None if self.words is None else list(self.words),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """What `as_json` described.

        Raises:
            IntegrityError: it describes nothing of the kind.
        """
        try:
            language, words = state["language"], state["words"]
            return cls(
                units=Units.from_json(state["units"]),
                language=None if language is None else Ngram.from_json(language),
                words=None if words is None else tuple(words),
            )
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"processor.json does not describe what a recogniser writes: {error!r}") from error


def transcripts(split: Split) -> list[str]:
    """The texts of a split, without decoding its recordings where it has them at hand."""
    texts = getattr(split, "targets", None)
    found = texts if texts is not None else [split[index].text for index in range(len(split))]
    return [text or "" for text in found]


def term_count(tensors: Mapping[str, Tensor], size: int) -> int:
    """The terms that a recogniser's loss averages: units of the targets, and one for an empty target, so that any
    division into micro-batches weighs the same; examples, where there are no targets."""
    lengths = tensors.get("target_lengths")
    return size if lengths is None else int(lengths.clamp(min=1).sum())
