"""How does espeak-ng answer for a task?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from plait.errors import RecipeError
from plait.model import Model
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_speech.audio import resample
from plait_speech.synthesis import Manner, check_voice, speak, version
from plait_speech.text_to_speech.task import Sentence, Speech


class EspeakOptions(ModelOptions):
    """The `model` block of speech/espeak."""

    voice: str = "en"
    """A language or an accent, and perhaps a timbre: "en", "en-us", "de+f3"."""
    rate: int = Field(default=175, ge=80, le=450)
    """Words per minute."""
    pitch: int = Field(default=50, ge=0, le=100)
    """On espeak's scale; 50 is as the voice has it."""
    volume: int = Field(default=100, ge=0, le=200)
    """On espeak's scale; 100 is as the voice has it, 200 may be clipped."""
    sample_rate: int | None = Field(default=None, ge=4_000, le=48_000)
    """Samples per second of what is returned, Hz; None: the 22,050 that espeak-ng speaks at."""

    @property
    def manner(self) -> Manner:
        """How texts are spoken."""
        return Manner(voice=self.voice, speed=self.rate, pitch=self.pitch, volume=self.volume)


class Espeak(Model):
    """The formant synthesiser espeak-ng. It only predicts, and depends on the text and its options alone."""

    Options: ClassVar[type[EspeakOptions]] = EspeakOptions

    options: EspeakOptions

    def __init__(self, *, options: EspeakOptions, problem: Problem, library: str) -> None:
        self.options = options
        self.problem = problem
        self.library = library

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        """Refuse early what could not be spoken.

        Raises:
            RecipeError: an unknown voice (near names are in the hint), or something to start from.
            PluginError: espeak-ng is not installed.
        """
        if options.weights is not None or options.from_ is not None or options.freeze:
            raise RecipeError(
                "speech/espeak has no weights", hint="leave out model.weights, model.from and model.freeze"
            )
        check_voice(options.voice)
        return cls(options=options, problem=problem, library=version())

    def predict(self, examples: Sequence[Sentence]) -> list[Speech]:
        found = []
        for each in examples:
            samples, rate = speak(each.text, self.options.manner)
            wanted = self.options.sample_rate or rate
            found.append(Speech(resample(samples, rate, wanted), wanted))
        return found

    def save(self, directory: Path) -> None:
        (directory / "espeak.json").write_text(json.dumps({"library": self.library}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        library = json.loads((directory / "espeak.json").read_text(encoding="utf-8"))["library"]
        check_voice(options.voice)
        return cls(options=options, problem=problem, library=library)
