"""Which recordings do the speech tasks read, which of them are sound, and in which split is each?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, mode
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from plait.checking import Sound, data_fingerprint, examine, shared
from plait.data import TABLE_SUFFIXES, digest
from plait.errors import DataError, InputError
from plait.folders import check_pattern
from plait.listing import NOTHING, Fault, Item, Listing, Media, name, seconds, settle
from plait.options import DataOptions
from plait.sources import input_value, list_source
from plait.splitting import Division, limited
from plait.task import Splits
from plait_speech.audio import AUDIO_SUFFIXES, STEP, AudioError, Samples, Utterance, is_clipped, is_silent, read_audio

CACHE_BYTES = 512 << 20
"""Samples of this size in all are kept in memory under `data.cache=auto`: 2.3 hours at 16 kHz."""

DEFAULT_RATE = 16_000
"""Hz; what a problem says of recordings that nobody has heard."""


# What is read


def recordings_of(target: str | None, *, more: Mapping[str, Callable[[Any], Any]] = NOTHING) -> Media:
    """Recordings and what is learned of them, for `RecordingOptions.media`. Columns speaker, start and end (seconds, a
    segment of a long file) are always read where they are there.

    Args:
        target: "label" (one name of a few; also a folder per class), "speaker" (the same, and who it is), "text" (a
            transcript; also x.txt beside x.wav, and LibriSpeech's *.trans.txt), or None.
        more: further columns, which `Utterance.more` gets; each with what makes a value of a cell, or raises a
            ValueError that says what was expected.
    """
    tables = f"a table with the columns audio{f' and {target}' if target else ''} ({', '.join(TABLE_SUFFIXES)})"
    folders = "a folder per class (also below train, valid and test folders), folders with data.pattern"
    if target == "text":
        folders = "a folder of recordings with x.txt beside x.wav, or with *.trans.txt"
    elif target is None:
        folders = "a folder of recordings"
    return Media(
        field="audio",
        noun="recording",
        suffixes=AUDIO_SUFFIXES,
        supported=f"{folders}, or {tables}",
        target=target,
        classes=target != "text",
        more={"speaker": name, "start": seconds, "end": seconds, **more},
        unpack=lambda value: _unpacked(value, target),
    )


def _unpacked(value: Any, target: str | None) -> Mapping[str, Any] | None:
    """An `Utterance`, (array, rate, target), or (array, rate) where there is no target; None for anything else."""
    if isinstance(value, Utterance):
        known = {"audio": value, "label": value.label, "text": value.text, "speaker": value.speaker, "id": value.id}
        return {**value.more, **known}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == (3 if target else 2):
        return {"audio": (value[0], value[1]), **({target: value[2]} if target else {})}
    return None


LABELLED = recordings_of("label")
"""A name of a few for each recording: a word, an emotion."""
TRANSCRIBED = recordings_of("text")
"""What is said in each recording."""


class RecordingOptions(DataOptions):
    """The recipe's `data` block of a speech task. A task names its own `media`, and adds fields by subclassing."""

    media: ClassVar[Media] = LABELLED

    pattern: str | None = None
    r"""A regular expression for files' paths below the folder (or below its train, valid and test folders), all of it,
    with the named groups label and perhaps speaker and split: "(?P<speaker>[^/]+)/(?P<label>\d)_.*\.wav". A group named
    train, valid or test puts the files in which it occurs into that split, and all others into train:
    "(?P<label>\d)_(?P<speaker>\w+)_(?:(?P<test>[0-4])|\d+)\.wav"."""
    split: Literal["auto", "given", "random", "stratified", "speaker"] = "auto"
    """auto: splits that the data name, else stratified; given: only these, none is carved; random, stratified: all data
    are divided anew by the seed; speaker: nobody is heard in training and in testing."""
    test_speaker: str | tuple[str, ...] | None = None
    """Who is tested (leave one speaker out); None under split=speaker: drawn by the seed."""
    valid_speaker: str | tuple[str, ...] | None = None
    """Whose recordings become `valid`; None: some of the training speakers' utterances."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part of the training utterances that becomes `valid` where the data name none; 0: no valid."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of all utterances (of all speakers under split=speaker) that becomes `test`; 0: no test."""
    min_seconds: float = Field(default=0.025, ge=0)
    """Shorter recordings are faults: one window of 25 ms is the least that has a spectrum."""
    max_seconds: float = Field(default=60.0, gt=0)
    """Longer recordings are faults, found before they are decoded; give long ones start and end."""
    cache: bool | Literal["auto"] = "auto"
    """Keep samples in memory; auto: where they take less than 512 MiB."""

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern, cls.media)
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [name for name in ("test_speaker", "valid_speaker") if getattr(self, name) is not None]
        if named and self.split not in ("auto", "speaker"):
            raise ValueError(f"{named[0]} divides by speaker, and split is {self.split!r}; set split=speaker")
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        return self


# What was read


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a sound recording without its samples.

    Args:
        rate: Hz.
        length: samples.
        clipped: samples lie at full scale.
    """

    rate: int
    length: int
    clipped: bool

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.length / self.rate


class SpeechSplit(Sequence[Utterance]):
    """The utterances of one split, decoded when they are asked for unless they are in memory. It knows no other split.

    `targets` (labels or transcripts), `speakers` and `ids` give one text for each utterance, `recorded` what is known
    of its samples, all without decoding; `classes` are the classes of the run, in the order of a model's outputs, where
    the targets are some.
    """

    def __init__(
        self, items: Sequence[Item], sounds: Sequence[Sound[Recorded]], *, media: Media, classes: Sequence[str] = ()
    ) -> None:
        self.classes = tuple(classes)
        self.targets = [item.target for item in items]
        self.speakers = [item.more.get("speaker", "") for item in items]
        self.ids = [item.id for item in items]
        self.digests = [each.digest for each in sounds]
        self.recorded = [each.about for each in sounds]
        self.in_memory = all(each.content is not None for each in sounds)
        self._samples = [each.content for each in sounds]
        self._items, self._media = list(items), media

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        samples, rate, item = self._samples[index], self.recorded[index].rate, self._items[index]
        if samples is None:
            try:
                samples, rate = _read(item)
            except AudioError as error:
                raise DataError(
                    f"{item.id} {error}", hint="it was sound when training began: was the data set changed?"
                ) from error
        label, text = (item.target, None) if self._media.classes else (None, item.target)
        more = {field: value for field, value in item.more.items() if field not in ("speaker", "start", "end")}
        known, frames = label if self._media.target else None, None
        if samples.ndim > 1:
            samples, frames = samples[:0, 0], samples
        return Utterance(samples, rate, known, self.speakers[index], item.id, text, more or NOTHING, frames)

    def __iter__(self) -> Iterator[Utterance]:
        return (self[position] for position in range(len(self)))


@dataclass(frozen=True, slots=True)
class Listed:
    """The recordings of a source by split (train, valid, test, as far as there are any), before a sample is read."""

    parts: dict[str, list[Item]]
    listing: Listing
    notes: tuple[str, ...]


def list_recordings(source: Any, *, options: RecordingOptions, seed: int, fixed: bool = False) -> Listed:
    """List a source's recordings and divide them.

    Args:
        source: see `plait.sources.list_source`; rows may also be an `Utterance` or (array, rate, target).
        fixed: the classes are fixed by an option or a trained run, so that train may lack some, or be missing.

    Raises:
        DataError: nothing can be listed, recordings lack target or audio (all at once), or no such split can be had.
    """
    media = options.media
    if source is None:
        raise DataError("no data are given", hint=f"data.source: {media.supported}")
    listing = list_source(source, media=media, fields=options.fields, pattern=options.pattern)
    total = len(listing) + len(listing.faults)
    notes = settle(listing.faults, total=total, on_error=options.on_error, nouns=media.nouns)
    if not len(listing):
        described = source if isinstance(source, str | Path) else "the data"
        raise DataError(f"no {media.nouns} in {described}", hint=f"expected {media.supported}")
    division = Division(
        media=media,
        how=options.split,
        valid_fraction=options.valid_fraction,
        test_fraction=options.test_fraction,
        seed=seed,
        fixed=fixed,
        group="speaker",
        test_groups=_names(options.test_speaker),
        valid_groups=_names(options.valid_speaker),
    )
    return Listed(division.of(listing.parts), listing, (*listing.notes(), *notes))


def check_recordings(
    listed: Listed,
    *,
    options: RecordingOptions,
    seed: int,
    classes: Sequence[str] = (),
    check: Callable[[Item], str | None] | None = None,
) -> Splits:
    """Read every recording that `data.limit` leaves once, and hash it.

    Args:
        classes: the classes of the run, where the targets are some.
        check: why an item cannot be used, as far as its target goes ("has 'ß' at 3, which ..."); None where it can.

    Returns:
        Splits of `SpeechSplit`, with an index of the columns id, split, speaker and the target.

    Raises:
        DataError: recordings that are broken, silent, too short or too long, or that `check` refuses, all at once.
    """
    parts = limited(listed.parts, media=options.media, most=options.limit, seed=seed)
    items = [item for part in parts.values() for item in part]
    sound, faults = _examined(items, options, check)
    noted = settle(faults, total=len(items), on_error=options.on_error, nouns=options.media.nouns)
    splits: dict[str, SpeechSplit] = {}
    start = 0
    for split, part in parts.items():
        good = [index for index in range(start, start + len(part)) if index in sound]
        start += len(part)
        if part and not good:
            raise DataError(f"no recording of {split} can be used", hint="see why without data.on_error=skip")
        kept = [items[each] for each in good], [sound[each] for each in good]
        splits[split] = SpeechSplit(*kept, media=options.media, classes=classes)
    notes = (*listed.notes, *noted, *_clipped(splits), *_shared(splits))
    return Splits(**splits, fingerprint=data_fingerprint(splits), index=_index(splits, options.media), notes=notes)


def heard(splits: Splits) -> dict[str, Any]:
    """What a problem says of recordings: {"rate": of most training utterances, Hz, "seconds": {"median", "longest"}}.

    Without data it says 16,000 Hz and one second.
    """
    seen = next((part for name in splits.names() if isinstance(part := splits[name], SpeechSplit)), None)
    if seen is None:
        return {"rate": DEFAULT_RATE, "seconds": {"median": 1.0, "longest": 1.0}}
    lengths = [each.seconds for each in seen.recorded]
    rate = mode(each.rate for each in seen.recorded)
    return {"rate": rate, "seconds": {"median": round(median(lengths), 3), "longest": round(max(lengths), 3)}}


def read_input(inputs: Mapping[str, Any], *, options: RecordingOptions) -> Utterance:
    """An example from the input port `audio`: what `read_audio` reads.

    Raises:
        InputError: it is none of these, broken, silent, too short or too long.
    """
    value = input_value(inputs, options.media)
    id_ = str(value) if isinstance(value, str | Path) else value.id if isinstance(value, Utterance) else ""
    try:
        if isinstance(value, Utterance) and value.frames is not None:
            return Utterance(value.samples, value.rate, id=id_, frames=check_frames(value.frames))
        samples, rate = read_audio(value, longest=options.max_seconds)
        check_samples(samples, rate, shortest=options.min_seconds)
    except AudioError as error:
        raise InputError(f"{id_ or 'audio'} {error}") from error
    return Utterance(samples, rate, id=id_)


def check_frames(frames: Samples) -> Samples:
    """Frames that are given in place of samples.

    Raises:
        AudioError: they are no numbers [frames, dims], empty, or not finite.
    """
    if not isinstance(frames, np.ndarray) or frames.ndim != 2 or frames.dtype.kind != "f" or not frames.size:
        found = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise AudioError(f"has frames that are {found}; expected float [frames, dims], one frame at least")
    if not np.isfinite(frames).all():
        row = int(np.flatnonzero(~np.isfinite(frames).all(1))[0])
        raise AudioError(f"has frames that are not finite: the first is frame {row}")
    return frames.astype(np.float32, copy=False)


def check_samples(samples: Samples, rate: int, *, shortest: float) -> None:
    """Refuse what nothing can be recognised in.

    Raises:
        AudioError: it is shorter than `shortest` seconds, or silent.
    """
    if len(samples) < shortest * rate:
        count = "1 sample" if len(samples) == 1 else f"{len(samples)} samples"
        raise AudioError(f"is too short: {count} at {rate} Hz, and at least {shortest * 1000:g} ms are expected")
    if is_silent(samples):
        raise AudioError(f"is silent: all of its {len(samples)} samples are {samples[0]:g}")


def _examined(
    items: Sequence[Item], options: RecordingOptions, check: Callable[[Item], str | None] | None
) -> tuple[dict[int, Sound[Recorded]], list[Fault]]:
    def found(item: Item) -> Sound[Recorded]:
        reason = check(item) if check else None
        if reason is not None:
            raise AudioError(reason)
        samples, rate = _read(item, options.max_seconds)
        known = digest(b"%d:" % rate + samples.tobytes())  # so that it is known again in another file format
        if samples.ndim > 1:
            return Sound(Recorded(rate, round(len(samples) * STEP * rate), clipped=False), known, samples)
        check_samples(samples, rate, shortest=options.min_seconds)
        return Sound(Recorded(rate, len(samples), is_clipped(samples)), known, samples)

    return examine(items, found, error=AudioError, cache=options.cache, cache_bytes=CACHE_BYTES)


def _read(item: Item, longest: float | None = None) -> tuple[Samples, int]:
    """[samples], or the [frames, dims] that are given in their place; and the rate."""
    audio = item.read()
    if audio is None:
        raise AudioError("is null")
    if isinstance(audio, Utterance) and audio.frames is not None:
        return check_frames(audio.frames), audio.rate
    return read_audio(audio, start=item.more.get("start"), end=item.more.get("end"), longest=longest)


def _index(splits: Mapping[str, SpeechSplit], media: Media) -> pa.Table:
    columns = {
        "id": [id_ for split in splits.values() for id_ in split.ids],
        "split": [name for name, split in splits.items() for _ in split.ids],
        **({media.target: [each for split in splits.values() for each in split.targets]} if media.target else {}),
        "speaker": [speaker for split in splits.values() for speaker in split.speakers],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _clipped(splits: Mapping[str, SpeechSplit]) -> list[str]:
    """A note on recordings that are overdriven: their spectra have overtones that nobody spoke."""
    found = [
        id_ for each in splits.values() for id_, known in zip(each.ids, each.recorded, strict=True) if known.clipped
    ]
    total = sum(map(len, splits.values()))
    return [f"{len(found)} of {total} recordings are clipped: first {found[0]}"] if found else []


def _shared(splits: Mapping[str, SpeechSplit]) -> list[str]:
    """Notes on recordings, and on speakers, that are in two splits."""
    notes = shared(splits, nouns="recordings", how="sample for sample")
    if "train" in splits and "test" in splits:
        tested = set(splits["test"].speakers) - {""}
        if both := tested & set(splits["train"].speakers):
            notes.append(
                f"{len(both)} of {len(tested)} speakers of test are also in train: on new speakers expect less"
                " (data.split=speaker measures it)"
            )
    return notes


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()
