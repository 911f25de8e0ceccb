"""What is learned: where in a recording is somebody speaking?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from plait.errors import DataError, InputError
from plait.listing import Item, Media, several
from plait.options import DataOptions
from plait.sources import input_value
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_speech.audio import AudioError, Utterance, read_audio
from plait_speech.recordings import RecordingOptions, check_recordings, heard, list_recordings, recordings_of
from plait_speech.voice_activity.evaluation import ActivityEvaluator
from plait_speech.voice_activity.recordings import marked
from plait_speech.voice_activity.segments import Segment, read_segments

_LATE = 0.05  # seconds that a segment may end behind its recording: annotations round


def from_cell(value: Any) -> tuple[Segment, ...]:
    """Segments from a table's cell: JSON text in CSV, lists in JSONL and Parquet.

    Raises:
        ValueError: says what was expected.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('expected JSON: [{"start": 0.2, "end": 1.1}]') from None
    return read_segments(value)


class ActivityOptions(RecordingOptions):
    """The recipe's `data` block of speech/voice-activity-detection."""

    media: ClassVar[Media] = recordings_of(None, more={"segments": from_cell})

    max_seconds: float = Field(default=3600.0, gt=0)
    """Longer recordings are faults, found before they are decoded; give long ones start and end."""


class VoiceActivity(Task):
    """Segments of a recording. Examples are `Utterance`, whose `more["segments"]` says where somebody speaks;
    predictions are lists of `Segment`. It knows no model.

    Sources are tables with the columns audio and segments (a list of {"start", "end"}, seconds from the beginning of
    what is read; [] where nobody speaks), and `Utterance`s.
    """

    Options: ClassVar[type[DataOptions]] = ActivityOptions

    options: ActivityOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read marked recordings.

        Raises:
            DataError: names the files and what to do: recordings that cannot be read, that are not marked, or whose
                segments lie behind their end.
        """
        if source is None:
            return Splits(notes=("no data: nothing is fitted",))
        listed = list_recordings(source, options=self.options, seed=self.seed, fixed=problem is not None)
        splits = check_recordings(listed, options=self.options, seed=self.seed, check=_unmarked)
        self._check_ends(splits)
        return splits

    def _check_ends(self, splits: Splits) -> None:
        late = [
            f"{example.id} (marked until {segments[-1].end:g} s, lasts {example.seconds:.3f} s)"
            for name in splits.names()
            if (part := splits[name]) is not None
            for example in (part[index] for index in range(len(part)))
            if (segments := marked(example)) and segments[-1].end > example.seconds + _LATE
        ]
        if late:
            raise DataError(
                f"{len(late)} recordings are marked behind their end: {several(late, most=5)}",
                hint="times are seconds from the beginning of the recording (or of its column start)",
            )

    def problem(self, splits: Splits) -> Problem:
        """{"rate", "seconds"}: see `plait_speech.recordings.heard`."""
        return heard(splits)

    def evaluator(self, problem: Problem, split: Split) -> ActivityEvaluator:
        return ActivityEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Utterance:
        """A recording from the port `audio`; it may be silent.

        Raises:
            InputError: it is no recording, broken or too long.
        """
        value = input_value(inputs, self.options.media)
        id_ = str(value) if isinstance(value, str | Path) else value.id if isinstance(value, Utterance) else ""
        try:
            samples, rate = read_audio(value, longest=self.options.max_seconds)
        except AudioError as error:
            raise InputError(f"{id_ or 'audio'} {error}") from error
        return Utterance(samples, rate, id=id_)

    def present(self, prediction: Sequence[Segment], problem: Problem) -> Prediction:
        """A list of {"start", "end"}, seconds, which is also the output `segments`."""
        segments = [{"start": float(each.start), "end": float(each.end)} for each in prediction]
        return Prediction(prediction=segments, outputs={"segments": segments})


def _unmarked(item: Item) -> str | None:
    return None if "segments" in item.more else "is not marked: it has no segments (write [] where nobody speaks)"
