"""Which words and moods come with this plugin, and how are they made?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from plait_speech.audio import Samples, Utterance

RATE = 8_000
"""Hz."""

Floats = npt.NDArray[np.float64]

# The first three formants of vowels, Hz: men's averages of Peterson and Barney (1952), table II.
_VOWELS = {
    "i": (270, 2290, 3010),
    "e": (530, 1840, 2480),
    "a": (730, 1090, 2440),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
_NOISES = {"s": (3300.0, 500.0), "h": (1500.0, 1200.0), "k": (2200.0, 300.0)}  # centre and width, Hz
_WORDS = ("sa", "si", "ahu", "iko", "uka", "ese", "oi", "aka", "he", "uso")
_SPEAKERS = {"ada": (205.0, 1.16), "bo": (118.0, 1.0), "cleo": (180.0, 1.1), "dan": (95.0, 0.95)}  # pitch, formants
_TAKES = 7  # the last of which is for testing
_SEGMENT = 0.09  # seconds of a sound, on average
_BANDWIDTH = 90.0  # of a formant, Hz


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mood:
    """How a word is said, beside the speaker's own manner.

    Args:
        pitch, length, loudness: factors on the speaker's.
        fall: by which part of itself the pitch falls over the word; it rises where negative.
        tilt: how fast harmonics get softer, as an exponent; a pressed voice has more of the high ones.
    """

    pitch: float = 1.0
    length: float = 1.0
    loudness: float = 1.0
    fall: float = 0.1
    tilt: float = 0.5


# The directions are those of Murray and Arnott (1993), table I; the sizes are made up.
_MOODS = {
    "neutral": _Mood(),
    "happy": _Mood(pitch=1.25, length=0.85, loudness=1.3, fall=-0.25),
    "sad": _Mood(pitch=0.85, length=1.3, loudness=0.55, fall=0.25, tilt=0.8),
    "angry": _Mood(pitch=1.1, length=0.75, loudness=1.7, fall=0.35, tilt=0.3),
}


@cache
def synthetic_words() -> dict[str, list[Utterance]]:
    """Ten made-up words by four made-up speakers: 240 utterances to train, 40 to test; 8,000 Hz, a third of a second.

    Harmonics under moving formants and bursts of noise: enough for a model to show that it works, and nothing to judge
    one by. They are the same on every machine up to rounding, and need no download and no further package.
    """
    parts: dict[str, list[Utterance]] = {"train": [], "test": []}
    for number, speaker in enumerate(_SPEAKERS):
        for word in _WORDS:
            for take in range(_TAKES):
                stream = np.random.PCG64([number, _WORDS.index(word), take])  # its raw stream never changes (NEP 19)
                samples = _spoken(word, *_SPEAKERS[speaker], stream)
                utterance = Utterance(samples, RATE, word, speaker, f"{speaker}/{word}-{take}")
                parts["test" if take == _TAKES - 1 else "train"].append(utterance)
    return parts


@cache
def synthetic_emotions() -> dict[str, list[Utterance]]:
    """The ten words, said neutrally, happily, sadly and angrily: 120 utterances by three speakers to train, 40 by the
    fourth to test; 8,000 Hz.

    Pitch, tempo, loudness and voice are changed as emotions change them on average. Nobody feels anything here: it
    shows that a model runs, and says nothing of real speech.
    """
    parts: dict[str, list[Utterance]] = {"train": [], "test": []}
    for number, speaker in enumerate(_SPEAKERS):
        for place, (mood, manner) in enumerate(_MOODS.items()):
            for index, word in enumerate(_WORDS):
                stream = np.random.PCG64([number, index, 100 + place])
                samples = _spoken(word, *_SPEAKERS[speaker], stream, manner)
                utterance = Utterance(samples, RATE, mood, speaker, f"{speaker}/{mood}/{word}")
                parts["test" if number == len(_SPEAKERS) - 1 else "train"].append(utterance)
    return parts


def _uniform(stream: np.random.PCG64, count: int) -> Floats:
    raw: Floats = np.asarray(stream.random_raw(count), dtype=np.uint64) / 2.0**64
    return raw


def _spoken(word: str, pitch: float, size: float, stream: np.random.PCG64, mood: _Mood = _MOODS["neutral"]) -> Samples:
    """A word, float32 [samples]; pitch, formants, tempo and loudness differ a little each time."""
    pitch = pitch * mood.pitch
    drawn = 2 * _uniform(stream, 4 + len(word)) - 1
    pitch, size = pitch * (1 + 0.08 * drawn[0]), size * (1 + 0.03 * drawn[1])
    lengths = [round(RATE * mood.length * _SEGMENT * (1 + 0.25 * each)) for each in drawn[4:]]
    total = sum(lengths)
    centres = np.cumsum(lengths) - np.asarray(lengths) / 2
    time = np.arange(total)
    voiced = [sound in _VOWELS for sound in word]
    vowels = [(centre, _VOWELS[sound]) for centre, sound in zip(centres, word, strict=True) if sound in _VOWELS]
    formants = [
        size * np.interp(time, [at for at, _ in vowels], [values[index] for _, values in vowels]) for index in range(3)
    ]
    contour = 1 + mood.fall / 2 - mood.fall * time / total
    phase = 2 * math.pi * np.cumsum(pitch * contour) / RATE
    voice = np.zeros(total)
    for harmonic in range(1, int(RATE / 2 / (contour.max() * pitch))):
        gain = sum(_resonance(harmonic * pitch, formant, _BANDWIDTH) for formant in formants)
        voice += gain / harmonic**mood.tilt * np.sin(harmonic * phase)
    envelope = np.interp(time, centres, np.asarray(voiced, float))
    samples = voice / np.abs(voice).max() * envelope
    hiss = 2 * _uniform(stream, total) - 1
    for sound, centre, length in zip(word, centres, lengths, strict=True):
        if sound in _NOISES:
            shape = np.exp(-(((time - centre) / (0.4 * length)) ** 2))
            samples = samples + 0.5 * shape * _coloured(hiss, *_NOISES[sound])
    fade = np.minimum(1.0, np.minimum(time, time[::-1]) / (0.01 * RATE))
    samples = samples * fade * (0.35 * mood.loudness * (1 + 0.4 * drawn[2])) + 0.002 * hiss
    spoken: Samples = samples.astype(np.float32)
    return spoken


def _resonance(frequency: float, formant: Floats, bandwidth: float) -> Floats:
    gain: Floats = 1 / (1 + ((frequency - formant) / bandwidth) ** 2)
    return gain


def _coloured(noise: Floats, centre: float, width: float) -> Floats:
    """Noise around a frequency, Hz, at full scale."""
    spectrum = np.fft.rfft(noise)
    frequencies = np.fft.rfftfreq(len(noise), 1 / RATE)
    shaped = np.fft.irfft(spectrum * np.exp(-(((frequencies - centre) / width) ** 2)), len(noise))
    result: Floats = shaped / np.abs(shaped).max()
    return result
