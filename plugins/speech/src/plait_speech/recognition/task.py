"""What is learned: which words are said, in order, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from plait.errors import DataError
from plait.listing import Item, Media
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_speech.audio import Utterance
from plait_speech.live import Piece, audio_pieces
from plait_speech.recognition.evaluation import TranscriptEvaluator
from plait_speech.recognition.transcripts import Case, Punctuation, Spelling, Transcript, alphabet, outside
from plait_speech.recordings import (
    TRANSCRIBED,
    Listed,
    RecordingOptions,
    SpeechSplit,
    check_recordings,
    heard,
    list_recordings,
    read_input,
)


class RecognitionOptions(RecordingOptions):
    """The recipe's `data` block of speech recognition."""

    media: ClassVar[Media] = TRANSCRIBED

    case: Case = "lower"
    """What becomes of letters in transcripts: lower, upper, or keep."""
    punctuation: Punctuation = "remove"
    """Whether transcripts lose what is no letter, mark or number (apostrophes and hyphens within words stay)."""
    alphabet: str | None = Field(default=None, min_length=1)
    """All characters that transcripts may have, in the spelling asked for: " abcdefghijklmnopqrstuvwxyz'". A transcript
    with another is a fault. None: the characters of the training transcripts."""

    @field_validator("alphabet")
    @classmethod
    def _once(cls, characters: str | None) -> str | None:
        if characters is not None and len(set(characters)) < len(characters):
            twice = next(each for each in characters if characters.count(each) > 1)
            raise ValueError(f"alphabet has {twice!r} twice")
        return characters


class SpeechRecognition(Task):
    """Audio to text. Examples are `Utterance`s with `text` in the problem's spelling, predictions `Transcript`s; it
    knows no model."""

    Options: ClassVar[type[DataOptions]] = RecognitionOptions

    options: RecognitionOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read recordings and transcripts, spell those alike, check every one, and divide them. See `list_recordings`
        for what a source may be.

        Raises:
            DataError: names the files and what to do: unreadable or missing data, broken, silent or too short
                recordings, transcripts with characters outside a given alphabet (file, character and place), all at
                once.
        """
        spelling = self._spelling() if problem is None else Spelling(**problem["spelling"])
        listed = _spelt(
            list_recordings(source, options=self.options, seed=self.seed, fixed=problem is not None), spelling
        )
        given = self.options.alphabet
        if problem is not None:
            given = "".join(problem["alphabet"]) if problem["closed"] else None

        def refused(item: Item) -> str | None:
            found = None if given is None else outside(item.target, given)
            return (
                f"has {found[0]!r} at character {found[1]} of its transcript, which the alphabet lacks"
                if found
                else None
            )

        splits = check_recordings(listed, options=self.options, seed=self.seed, check=refused)
        known = problem["alphabet"] if problem is not None else given or _heard_alphabet(splits)
        return replace(splits, notes=(*splits.notes, *_unwritable(splits, known)))

    def problem(self, splits: Splits) -> Problem:
        """{"alphabet": characters by code point, "closed": whether it was given, so that others are faults, "spelling":
        {"case", "punctuation"}, "rate": of most training utterances, Hz, "seconds": {"median", "longest"}}.

        Raises:
            DataError: the training transcripts are empty, and no alphabet is given.
        """
        given = self.options.alphabet
        characters = tuple(sorted(given)) if given else _heard_alphabet(splits)
        if not characters:
            raise DataError(
                "every training transcript is empty: nothing can be learned to write", hint="see data.fields"
            )
        spelling = {"case": self.options.case, "punctuation": self.options.punctuation}
        return {"alphabet": list(characters), "closed": given is not None, "spelling": spelling, **heard(splits)}

    def evaluator(self, problem: Problem, split: Split) -> TranscriptEvaluator:
        return TranscriptEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Utterance:
        """As `read_input`: a recording from the port `audio`."""
        return read_input(inputs, options=self.options)

    def pieces(self, source: Any, problem: Problem) -> Iterator[Piece]:
        """As `audio_pieces`: a file or pipe in tenths of a second; bare samples have the problem's rate."""
        return audio_pieces(source, rate=int(problem["rate"]))

    def present(self, prediction: Transcript, problem: Problem) -> Prediction:
        """The text; `log_probability`, nats, where the model knows one."""
        scores = None if prediction.score is None else {"log_probability": prediction.score}
        return Prediction(prediction=prediction.text, scores=scores, outputs={"text": prediction.text})

    def _spelling(self) -> Spelling:
        return Spelling(case=self.options.case, punctuation=self.options.punctuation)


def _spelt(listed: Listed, spelling: Spelling) -> Listed:
    parts = {
        name: [replace(item, target=spelling.of(item.target)) for item in items] for name, items in listed.parts.items()
    }
    return replace(listed, parts=parts)


def _heard_alphabet(splits: Splits) -> tuple[str, ...]:
    """The characters of the training transcripts."""
    return alphabet(splits.train.targets) if isinstance(splits.train, SpeechSplit) else ()


def _unwritable(splits: Splits, known: Sequence[str]) -> list[str]:
    """A note on transcripts that no model of this run can write: their characters count as errors."""
    found = [
        (name, id_, outside(text, known))
        for name in ("valid", "test")
        if isinstance(split := splits[name], SpeechSplit) and known
        for id_, text in zip(split.ids, split.targets, strict=True)
    ]
    wrong = [(name, id_, place) for name, id_, place in found if place is not None]
    if not wrong:
        return []
    name, id_, place = wrong[0]
    return [
        f"{len(wrong)} transcripts have characters that training lacks, which count as errors: first {place[0]!r} at "
        f"character {place[1]} of {id_} ({name})"
    ]
