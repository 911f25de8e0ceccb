"""How does espeak-ng speak words for a data set, in many voices?"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any

import numpy as np

from plait.errors import DataError
from plait_speech.audio import Samples, Utterance, resample

RATE = 8_000
"""Hz; espeak-ng itself speaks at 22,050."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp")  # "en" is British
_TIMBRES = ("m1", "m3", "m5", "m7", "f1", "f2", "f3", "f4")
_MANNERS = ((140, 40), (175, 50), (210, 62))  # words per minute, and pitch on espeak's scale of 0 to 100
_TEST_TIMBRES = ("m7", "f4")  # so that nobody is heard in training and in testing

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _UTF8, _BY_CHARACTER = 2, 1, 1
_SPEED, _PITCH = 1, 3
_NO_EXIT = 0x8000  # do not end the process where the voices' files are missing


@cache
def spoken_digits() -> dict[str, list[Utterance]]:
    """The ten English digits by 32 synthetic voices (four accents, eight timbres), three times each: 720 utterances to
    train, 240 by other timbres to test; 8,000 Hz. Silence around the words is cut off.

    Raises:
        DataError: espeakng-loader, whose wheel holds the library and its voices, is not installed or does not start.
    """
    parts: dict[str, list[Utterance]] = {"train": [], "test": []}
    with _lock:
        library, rate = _library()
        for accent in _ACCENTS:
            for timbre in _TIMBRES:
                voice = f"{accent}+{timbre}"
                if library.espeak_SetVoiceByName(voice.encode()):
                    raise DataError(f"espeak-ng has no voice {voice!r}", hint="pip install -U 'plait-speech[synth]'")
                for digit, word in enumerate(_DIGITS):
                    for take, (speed, pitch) in enumerate(_MANNERS):
                        library.espeak_SetParameter(_SPEED, speed, 0)
                        library.espeak_SetParameter(_PITCH, pitch, 0)
                        samples = resample(_trimmed(_spoken(library, word)), rate, RATE)
                        utterance = Utterance(samples, RATE, str(digit), voice, f"{voice}/{word}-{take}")
                        parts["test" if timbre in _TEST_TIMBRES else "train"].append(utterance)
    return parts


_lock = threading.Lock()  # the library has one voice and one callback for the whole process
_heard: list[Samples] = []
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def _hear(samples: Any, count: int, events: Any) -> int:
    """Called by espeak-ng with each piece of what it says; 0 lets it go on."""
    if samples and count > 0:
        piece: Samples = np.ctypeslib.as_array(samples, (count,)).astype(np.float32) * np.float32(1 / 32_768)
        _heard.append(piece)
    return 0


_hearing = _Callback(_hear)  # kept, since the library keeps its address


@cache
def _library() -> tuple[Any, int]:
    """The library, ready to speak, and its rate in Hz."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise DataError(
            "data set 'spoken-digits' is spoken by espeak-ng, which is not installed",
            hint="pip install 'plait-speech[synth]' (espeak-ng is under the GPL-3)",
        ) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), _NO_EXIT)
    if rate <= 0:
        raise DataError(
            "espeak-ng does not start: it does not find its voices",
            hint="pip install --force-reinstall 'plait-speech[synth]'",
        )
    library.espeak_SetSynthCallback(_hearing)
    return library, int(rate)


def _spoken(library: Any, text: str) -> Samples:
    _heard.clear()
    encoded = text.encode()
    status = library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, _BY_CHARACTER, 0, _UTF8, None, None)
    if status or not _heard:
        raise DataError(f"espeak-ng said nothing for {text!r} (status {status})")
    return np.concatenate(_heard)


def _trimmed(samples: Samples, *, quiet: float = 1e-3, margin: int = 400) -> Samples:
    """The part from the first to the last sample that can be heard, with some samples around it."""
    loud = np.flatnonzero(np.abs(samples) > quiet)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]
