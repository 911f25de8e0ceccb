"""Which of the listed recordings are sound, and what do two splits share?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from plait.data import digest, fingerprint
from plait.errors import DataError
from plait_speech.audio import AudioError, Samples, Utterance, is_clipped, is_silent, read_audio
from plait_speech.word_recognition.listing import Cell, Fault, Item

CACHE_BYTES = 512 << 20
"""Samples of this size in all are kept in memory under `data.cache=auto`: 2.3 hours at 16 kHz."""

_AT_ONCE = 1024  # recordings in flight: bounds memory, keeps the threads busy


@dataclass(frozen=True, slots=True)
class Sound:
    """What checking found out about a good recording.

    Args:
        rate: Hz.
        length: samples.
        digest: of the samples and the rate, so that one recording is known again in another file format.
        clipped: samples lie at full scale.
        samples: kept where they fit in memory.
    """

    rate: int
    length: int
    digest: str
    clipped: bool
    samples: Samples | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.length / self.rate


class SpeechSplit(Sequence[Utterance]):
    """The utterances of one split, decoded when they are asked for unless they are in memory. It knows no other split.

    `labels`, `speakers` and `ids` give one text for each utterance, `sounds` what is known of its samples, all without
    decoding; `classes` are the classes of the run, in the order of a model's outputs.
    """

    def __init__(self, items: Sequence[Item], sounds: Sequence[Sound], *, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.labels = [item.label for item in items]
        self.speakers = [item.speaker for item in items]
        self.ids = [item.id for item in items]
        self.sounds = list(sounds)
        self.in_memory = all(each.samples is not None for each in sounds)
        self._items = list(items)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        samples, rate, item = self.sounds[index].samples, self.sounds[index].rate, self._items[index]
        if samples is None:
            try:
                samples, rate = _read(item)
            except AudioError as error:
                raise DataError(
                    f"{item.id} {error}", hint="it was sound when training began: was the data set changed?"
                ) from error
        return Utterance(samples, rate, item.label, item.speaker, item.id)

    def __iter__(self) -> Iterator[Utterance]:
        return (self[position] for position in range(len(self)))


def _read(item: Item, longest: float | None = None) -> tuple[Samples, int]:
    audio = item.audio.audio() if isinstance(item.audio, Cell) else item.audio
    return read_audio(audio, start=item.start, end=item.end, longest=longest)


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


def check_recordings(
    items: Sequence[Item], *, shortest: float, longest: float, cache: bool | Literal["auto"]
) -> tuple[dict[int, Sound], list[Fault]]:
    """Read every recording once, in threads, and hash it.

    Returns:
        What is known of the good ones by position, and the faults of the others.
    """
    sound: dict[int, Sound] = {}
    faults: list[Fault] = []
    held, keep = 0, cache is not False

    def check(item: Item) -> Sound | Fault:
        try:
            samples, rate = _read(item, longest)
            check_samples(samples, rate, shortest=shortest)
        except AudioError as error:
            return Fault(item.where, str(error))
        known = digest(b"%d:" % rate + samples.tobytes())
        return Sound(rate, len(samples), known, is_clipped(samples), samples if keep else None)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _AT_ONCE):
            for position, found in enumerate(pool.map(check, items[start : start + _AT_ONCE]), start):
                if isinstance(found, Fault):
                    faults.append(found)
                    continue
                sound[position] = found
                held += 0 if found.samples is None else found.samples.nbytes
            if keep and cache == "auto" and held > CACHE_BYTES:
                keep = False
                sound = {key: replace(each, samples=None) for key, each in sound.items()}
    return sound, faults


def clipped(splits: Mapping[str, SpeechSplit]) -> list[str]:
    """A note on recordings that are overdriven: their spectra have overtones that nobody spoke."""
    found = [id_ for each in splits.values() for id_, sound in zip(each.ids, each.sounds, strict=True) if sound.clipped]
    total = sum(map(len, splits.values()))
    return [f"{len(found)} of {total} recordings are clipped: first {found[0]}"] if found else []


def shared(splits: Mapping[str, SpeechSplit]) -> list[str]:
    """Notes on recordings, and on speakers, that are in two splits: what was trained on is then judged, too."""
    notes = []
    for one, other in combinations(splits, 2):
        first = {sound.digest: id_ for sound, id_ in zip(splits[one].sounds, splits[one].ids, strict=True)}
        pairs = [
            (first[sound.digest], id_)
            for sound, id_ in zip(splits[other].sounds, splits[other].ids, strict=True)
            if sound.digest in first
        ]
        if pairs:
            notes.append(
                f"{len(pairs)} of {len(splits[other])} recordings of {other} are also in {one}, sample for sample:"
                f" first {pairs[0][1]} = {pairs[0][0]}"
            )
    if "train" in splits and "test" in splits:
        tested = set(splits["test"].speakers) - {""}
        if both := tested & set(splits["train"].speakers):
            notes.append(
                f"{len(both)} of {len(tested)} speakers of test are also in train: on new speakers expect less"
                " (data.split=speaker measures it)"
            )
    return notes


def data_fingerprint(splits: Mapping[str, SpeechSplit]) -> str:
    """A hash of what training sees: samples, labels and order of train and valid."""
    seen = [(name, splits[name]) for name in ("train", "valid") if name in splits]
    return fingerprint(
        value
        for name, split in seen
        for value in (name, str(len(split)), *(each.digest for each in split.sounds), *split.labels)
    )
