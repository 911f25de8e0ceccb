"""How are recordings marked with where somebody speaks, and which ones come with this plugin?"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from plait_speech.audio import Samples, Utterance
from plait_speech.demo_data import RATE, synthetic_words
from plait_speech.voice_activity.segments import Segment

_TRAINING, _TESTING = 36, 12  # recordings
_WORDS = (1, 5)  # of a recording
_PAUSE = (0.15, 0.9)  # seconds, before, between and behind words
_QUIETEST, _LOUDEST = -48.0, -27.0  # of the noise, dB of full scale; the words lie near -17


def marked(utterance: Utterance) -> tuple[Segment, ...] | None:
    """Where somebody speaks in a recording, in order; None where that is to be predicted."""
    segments: tuple[Segment, ...] | None = utterance.more.get("segments")
    return segments


@cache
def synthetic_pauses() -> dict[str, list[Utterance]]:
    """The words of `synthetic_words` with pauses in noise: 36 recordings to train, 12 by another speaker to test;
    8,000 Hz, one to six seconds.

    Each has one to five words by one speaker, up to 10 dB softer than recorded, and its own noise, from a hiss that can
    hardly be heard to one 10 dB below the words, which rises or falls by 6 dB. A segment is a word, where it begins to
    where it ends. It is made up, and easier than any real recording: nothing else makes a sound.
    """
    every = [each for part in synthetic_words().values() for each in part]
    speakers = sorted({each.speaker for each in every})
    tested = [each for each in every if each.speaker == speakers[-1]]
    heard = {"train": [each for each in every if each.speaker != speakers[-1]], "test": tested}
    counts = {"train": _TRAINING, "test": _TESTING}
    return {
        part: [_recording(heard[part], f"{part}-{number}", [place, number]) for number in range(counts[part])]
        for place, part in enumerate(heard)
    }


def _recording(words: list[Utterance], id_: str, entropy: list[int]) -> Utterance:
    stream = np.random.PCG64([7, *entropy])  # its raw stream never changes (NEP 19)

    def drawn(low: float, high: float, count: int = 1) -> npt.NDArray[np.float64]:
        return low + (high - low) * (np.asarray(stream.random_raw(count), np.uint64) / 2.0**64)

    speaker = words[int(drawn(0, len(words))[0])].speaker
    own = [each for each in words if each.speaker == speaker]
    number = int(drawn(_WORDS[0], _WORDS[1] + 1)[0])
    chosen = [own[int(each)] for each in drawn(0, len(own), number)]
    pauses = [round(RATE * each) for each in drawn(*_PAUSE, number + 1)]
    gains = 10 ** (drawn(-10, 0, number) / 20)
    pieces: list[Samples] = []
    segments, at = [], 0
    for pause, word, gain in zip(pauses, chosen, gains, strict=False):
        at += pause
        segments.append(Segment(round(at / RATE, 4), round((at + len(word.samples)) / RATE, 4)))
        at += len(word.samples)
        pieces += [np.zeros(pause, np.float32), (gain * word.samples).astype(np.float32)]
    speech = np.concatenate([*pieces, np.zeros(pauses[-1], np.float32)])
    level, slope = drawn(_QUIETEST, _LOUDEST)[0], drawn(-6, 6)[0]
    decibels = level + slope * (np.arange(len(speech)) / len(speech) - 0.5)
    noise = drawn(-1, 1, len(speech)) * np.sqrt(3) * 10 ** (decibels / 20)
    samples: Samples = (speech + noise).astype(np.float32)
    return Utterance(samples, RATE, speaker=speaker, id=id_, more={"segments": tuple(segments)})
