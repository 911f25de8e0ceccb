"""How do recordings of single words become transcribed strings of them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from plait.errors import DataError
from plait_speech.audio import Samples, Utterance
from plait_speech.demo_data import synthetic_words

GAP = 0.12
"""Seconds of near silence between two words, at most."""
GAIN = 5.0
"""Decibels by which a word is louder or softer, at most."""

_HISS = 10 ** (-45 / 20)  # of the string's root mean square: digital silence would give the word boundaries away
_TRAINING, _TESTING = 480, 80  # strings of `synthetic_strings`


@dataclass(frozen=True, slots=True)
class Span:
    """When a word is said.

    Args:
        unit: the word.
        start, end: seconds from the beginning of the string.
    """

    unit: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class WordString:
    """Recordings of words one after the other, and where each of them lies."""

    utterance: Utterance
    spans: tuple[Span, ...]


def word_strings(
    words: Sequence[Utterance],
    *,
    count: int,
    words_each: tuple[int, int],
    seed: int,
    gap: float = GAP,
    gain: float = GAIN,
) -> list[WordString]:
    """Strings of isolated words by one speaker each, drawn with replacement.

    This is not continuous speech: nothing is co-articulated, no word is shortened by its neighbours, and the melody of
    each word is that of a word alone. Error rates on it are lower than those on real strings, and must be quoted with
    that sentence. The strings depend on `words`, their order and the seed alone, on every machine.

    Args:
        words: recordings with a label (the word) and one rate; those of a speaker go together.
        count: strings.
        words_each: the fewest and the most words of a string.
        gap: seconds between words, drawn from 0 to this; filled with noise 45 dB below the string.
        gain: decibels; each word is made louder or softer by up to this.

    Returns:
        Strings with `text`, the words in order with a space between; ids are "string-0000 of <speaker>".

    Raises:
        DataError: no words, a word without label, or several rates.
    """
    if not words or any(each.label is None for each in words) or len({each.rate for each in words}) != 1:
        raise DataError("strings are made of labelled words of one sampling rate", hint="give recordings with `label`")
    by_speaker: dict[str, list[Utterance]] = {}
    for each in words:
        by_speaker.setdefault(each.speaker, []).append(each)
    speakers = sorted(by_speaker)
    made = []
    for number in range(count):
        draws = _Draws([seed, number])
        speaker = speakers[draws.below(len(speakers))]
        own = by_speaker[speaker]
        fewest, most = words_each
        chosen = [own[draws.below(len(own))] for _ in range(fewest + draws.below(most - fewest + 1))]
        made.append(_joined(chosen, draws, gap=gap, gain=gain, id=f"string-{number:04d} of {speaker or 'somebody'}"))
    return made


@cache
def synthetic_strings() -> dict[str, list[Utterance]]:
    """480 strings of one to four made-up words to train, 80 to test (from other takes), 8,000 Hz; see `word_strings`
    and `demo_data`: enough for a model to show that it works, and nothing to judge one by."""
    words = synthetic_words()
    parts = {
        "train": word_strings(words["train"], count=_TRAINING, words_each=(1, 4), seed=0),
        "test": word_strings(words["test"], count=_TESTING, words_each=(1, 4), seed=1),
    }
    return {name: [each.utterance for each in strings] for name, strings in parts.items()}


class _Draws:
    """Random numbers from PCG64's raw stream, which never changes (NEP 19), where a Generator's methods may."""

    def __init__(self, entropy: Sequence[int]) -> None:
        self._stream = np.random.PCG64(list(entropy))

    def below(self, number: int) -> int:
        """A whole number from 0 to `number` - 1."""
        return int(self.uniform() * number)

    def uniform(self) -> float:
        """From 0 to below 1."""
        return float(int(self._stream.random_raw()) >> 11) / 2.0**53

    def noise(self, count: int) -> Samples:
        """White, uniform, of root mean square 1."""
        raw = np.asarray(self._stream.random_raw(count), dtype=np.uint64) >> np.uint64(11)
        found: Samples = ((raw / 2.0**53 - 0.5) * np.sqrt(12)).astype(np.float32)
        return found


def _joined(words: Sequence[Utterance], draws: _Draws, *, gap: float, gain: float, id: str) -> WordString:
    rate, at = words[0].rate, 0
    pieces: list[Samples] = []
    spans = []
    for position, word in enumerate(words):
        if position:
            silence = int(draws.uniform() * gap * rate)
            pieces.append(np.zeros(silence, np.float32))
            at += silence
        pieces.append(word.samples * np.float32(10 ** (gain * (2 * draws.uniform() - 1) / 20)))
        spans.append(Span(word.label or "", at / rate, (at + len(word.samples)) / rate))
        at += len(word.samples)
    samples = np.concatenate(pieces)
    level = np.float32(_HISS * np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    samples = samples + level * draws.noise(len(samples))
    peak = float(np.abs(samples).max())
    samples = samples / np.float32(max(1.0, peak))  # a gain of 5 dB must not clip
    text = " ".join(span.unit for span in spans)
    return WordString(Utterance(samples, rate, None, words[0].speaker, id, text), tuple(spans))
