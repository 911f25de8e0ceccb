"""How does espeak-ng say a text, in which voices, and which words does it speak for a data set?"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from plait.errors import DataError, PluginError, RecipeError, did_you_mean
from plait_speech.audio import Samples, Utterance, resample

INSTALL = "pip install 'plait-speech[synth]'"
"""What brings espeak-ng; it is under the GPL-3."""

RATE = 8_000
"""Hz, of `spoken_digits`; espeak-ng itself speaks at 22,050."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp")  # "en" is British
_TIMBRES = ("m1", "m3", "m5", "m7", "f1", "f2", "f3", "f4")
_MANNERS = ((140, 40), (175, 50), (210, 62))  # words per minute, and pitch on espeak's scale of 0 to 100
_TEST_TIMBRES = ("m7", "f4")  # so that nobody is heard in training and in testing

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _UTF8, _BY_CHARACTER = 2, 1, 1
_SPEED, _VOLUME, _PITCH = 1, 2, 3
_NO_EXIT = 0x8000  # do not end the process where the voices' files are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a text is spoken.

    Args:
        voice: a language, or an accent, and perhaps a timbre: "en", "en-us", "de+f3".
        speed: words per minute, 80 to 450.
        pitch, volume: on espeak's scales of 0 to 100 and 0 to 200; 50 and 100 are as the voice has it.
    """

    voice: str = "en"
    speed: int = 175
    pitch: int = 50
    volume: int = 100


def speak(text: str, manner: Manner) -> tuple[Samples, int]:
    """A text as espeak-ng says it, float32 [samples] at full scale -1..1, and the rate in Hz.

    It depends on the text and the manner alone, bit for bit, on one version of the library.

    Raises:
        RecipeError: there is no such voice.
        PluginError: espeak-ng is not installed, or does not start.
    """
    check_voice(manner.voice)
    with _speaking() as (library, rate):
        _set(library, manner)
        return _spoken(library, text), rate


def check_voice(voice: str) -> None:
    """Refuse a voice that espeak-ng does not have; it would speak in another one, and say nothing of it.

    Raises:
        RecipeError: near names are in the hint.
        PluginError: espeak-ng is not installed, or does not start.
    """
    language, plus, timbre = voice.partition("+")
    languages, timbres = voices()
    if language.lower() not in languages:
        near = did_you_mean(language.lower(), languages)
        raise RecipeError(
            f"espeak-ng has no voice {language!r}", hint=near or f"it has {', '.join(languages[:12])}, ..."
        )
    if plus and timbre not in timbres:
        near = did_you_mean(timbre, timbres)
        raise RecipeError(f"espeak-ng has no timbre {timbre!r}", hint=near or f"it has {', '.join(timbres[:12])}, ...")


@cache
def voices() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The languages and accents that espeak-ng has ("en-us"), and the timbres that each can be spoken with ("f3")."""
    with _speaking() as (library, _):
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        listed = library.espeak_ListVoices(None)
        languages = set()
        for number in range(10_000):  # the list ends with a null pointer
            if not listed[number]:
                break
            languages.add(listed[number].contents.languages[1:].decode())  # a priority precedes the first language
    files = (_data() / "voices" / "!v").iterdir()
    return tuple(sorted({"en", *languages})), tuple(sorted(file.name for file in files))


def version() -> str:
    """The library's version: "1.52.0"."""
    with _speaking() as (library, _):
        library.espeak_Info.restype = ctypes.c_char_p
        return str(library.espeak_Info(None).decode())


@cache
def spoken_digits() -> dict[str, list[Utterance]]:
    """The ten English digits by 32 synthetic voices (four accents, eight timbres), three times each: 720 utterances to
    train, 240 by other timbres to test; 8,000 Hz. Silence around the words is cut off.

    Raises:
        DataError: espeakng-loader, whose wheel holds the library and its voices, is not installed or does not start.
    """
    parts: dict[str, list[Utterance]] = {"train": [], "test": []}
    try:
        with _speaking() as (library, rate):
            for accent in _ACCENTS:
                for timbre in _TIMBRES:
                    part = parts["test" if timbre in _TEST_TIMBRES else "train"]
                    for digit, word in enumerate(_DIGITS):
                        for take, (speed, pitch) in enumerate(_MANNERS):
                            manner = Manner(voice=f"{accent}+{timbre}", speed=speed, pitch=pitch)
                            _set(library, manner)
                            samples = resample(_trimmed(_spoken(library, word)), rate, RATE)
                            id_ = f"{manner.voice}/{word}-{take}"
                            part.append(Utterance(samples, RATE, str(digit), manner.voice, id=id_))
    except PluginError as error:
        raise DataError(f"data set 'spoken-digits' is spoken by espeak-ng: {error.message}", hint=error.hint) from error
    return parts


# The library


class _Voice(ctypes.Structure):
    """espeak_VOICE of speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


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


@contextmanager
def _speaking() -> Iterator[tuple[Any, int]]:
    """The library, ready to speak, and its rate in Hz; nobody else has it meanwhile.

    It is loaded anew each time (7 ms), and its random numbers are seeded: it starts them from the clock, and keeps
    phases and flutter from one text to the next, so that "hello" said twice differs in every sample.
    """
    with _lock:
        library = ctypes.CDLL(_installed().get_library_path())
        try:
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(_data()), _NO_EXIT)
            if rate <= 0:
                raise PluginError(
                    "espeak-ng does not start: it does not find its voices",
                    hint=INSTALL.replace("install", "install --force-reinstall"),
                )
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            library.espeak_SetSynthCallback(_hearing)
            yield library, int(rate)
            library.espeak_Terminate()
        finally:
            _unload(library)


def _unload(library: Any) -> None:
    """Let the operating system forget the library and the state in its static variables."""
    import _ctypes

    unload = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]  # Windows has it
    unload(library._handle)


def _installed() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise PluginError(
            "espeak-ng, which speaks, is not installed", hint=f"{INSTALL} (espeak-ng is under the GPL-3)"
        ) from error
    return espeakng_loader


def _data() -> Path:
    return Path(_installed().get_data_path())


def _set(library: Any, manner: Manner) -> None:
    if library.espeak_SetVoiceByName(manner.voice.encode()):
        raise PluginError(f"espeak-ng has no voice {manner.voice!r}", hint=INSTALL.replace("install", "install -U"))
    for parameter, value in ((_SPEED, manner.speed), (_PITCH, manner.pitch), (_VOLUME, manner.volume)):
        library.espeak_SetParameter(parameter, value, 0)


def _spoken(library: Any, text: str) -> Samples:
    _heard.clear()
    encoded = text.encode()
    status = library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, _BY_CHARACTER, 0, _UTF8, None, None)
    if status:
        raise PluginError(f"espeak-ng could not say {text[:40]!r} (its status is {status})", hint="say it in parts")
    return np.concatenate(_heard) if _heard else np.zeros(0, np.float32)


def _trimmed(samples: Samples, *, quiet: float = 1e-3, margin: int = 400) -> Samples:
    """The part from the first to the last sample that can be heard, with some samples around it."""
    loud = np.flatnonzero(np.abs(samples) > quiet)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]
