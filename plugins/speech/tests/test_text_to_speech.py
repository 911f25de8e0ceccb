"""Texts are spoken, by a run, by name, and in a composition."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import plait
from plait.cli import main
from plait.errors import DataError, PluginError, RecipeError, RunError
from plait.options import DataOptions
from plait_speech.audio import read_audio
from plait_speech.text_to_speech.task import LONGEST, Sentence, TextToSpeech, greetings


def task(**options: object) -> TextToSpeech:
    return TextToSpeech(options=DataOptions(**options), seed=0)


def test_a_name_speaks_and_says_how_long_it_lasts() -> None:
    pytest.importorskip("espeakng_loader")
    speak = plait.load("speech/espeak", options={"voice": "en-us+f3", "sample_rate": 8_000})
    answer = speak("Good morning.")
    samples, rate = answer.outputs["audio"]
    assert answer.prediction == {"seconds": round(len(samples) / rate, 3), "rate": 8_000}
    assert 0.4 < len(samples) / rate < 2
    assert 0.1 < np.abs(samples).max() <= 1


def test_the_same_text_always_sounds_the_same_whatever_was_said_before() -> None:
    pytest.importorskip("espeakng_loader")
    speak = plait.load("speech/espeak")
    first, _, again = (each.outputs["audio"][0] for each in speak(["hello", "seven seas", "hello"]))
    assert np.array_equal(first, again)


@pytest.mark.parametrize(("option", "value"), [("rate", 300), ("pitch", 90), ("volume", 30), ("voice", "de")])
def test_every_option_is_heard(option: str, value: object) -> None:
    pytest.importorskip("espeakng_loader")
    plain, changed = (
        plait.load("speech/espeak", options=options)("one two three").outputs["audio"][0]
        for options in ({}, {option: value})
    )
    assert len(plain) != len(changed) or not np.allclose(plain, changed, atol=0.05)
    if option == "rate":
        assert len(changed) < 0.8 * len(plain)
    if option == "volume":
        assert np.abs(changed).max() < 0.5 * np.abs(plain).max()


@pytest.mark.parametrize(
    ("voice", "message", "hint"),
    [("en-uss", "no voice 'en-uss'", "did you mean 'en-us'"), ("en+f33", "no timbre 'f33'", "did you mean 'f3'")],
)
def test_an_unknown_voice_is_refused_with_near_ones(voice: str, message: str, hint: str) -> None:
    pytest.importorskip("espeakng_loader")
    with pytest.raises(RecipeError, match=message) as error:
        plait.load("speech/espeak", options={"voice": voice})
    assert hint in str(error.value.hint)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from plait_speech import synthesis

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    synthesis.voices.cache_clear()
    with pytest.raises(PluginError, match="is not installed") as error:
        plait.load("speech/espeak")
    assert "pip install 'plait-speech[synth]'" in str(error.value.hint)


def test_the_command_writes_recordings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader")
    out = str(tmp_path / "said")
    words = ["predict", "speech/espeak", "Hello, you!", " ", "--out", out, "--set", "model.rate=200", "--json"]
    assert main(words) == 1
    first, second = json.loads(capfd.readouterr().out)
    assert second == {"input": " ", "error": "the text is blank"}
    assert first["files"] == {"audio": f"{out}/0001-hello-you.wav"}
    samples, rate = read_audio(first["files"]["audio"])
    assert (len(samples) / rate, rate) == (pytest.approx(first["prediction"]["seconds"], abs=1e-3), 22_050)


def test_what_is_said_is_recognised_in_a_composition(tmp_path: Path) -> None:
    """Text to speech to segments: typed ports meet, and the saved whole speaks as before."""
    pytest.importorskip("espeakng_loader")
    whole = plait.compose(plait.load("speech/espeak"), plait.load("speech/energy-vad"))
    loaded = plait.load(whole.save(tmp_path / "both"))
    answer = loaded("Who said that?")
    assert answer == whole("Who said that?")
    assert 0.3 < sum(each["end"] - each["start"] for each in answer.prediction) < 1.5


def test_texts_are_read_from_lines_tables_and_python(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello.\n\nBye.\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text('text,id\n"Hello, you.",greeting\n', encoding="utf-8")
    assert list(task().read(tmp_path / "a.txt").test or ()) == [
        Sentence("Hello.", "a.txt:1"),
        Sentence("Bye.", "a.txt:3"),
    ]
    assert list(task().read(tmp_path / "b.csv").test or ()) == [Sentence("Hello, you.", "greeting")]
    given = task(limit=2).read({"test": ["one", {"text": "two", "id": "second"}, Sentence("three")]})
    assert given.names() == ["test"]
    assert len(given.test or ()) == 2
    assert given.index is not None
    assert given.index.column_names == ["id", "split"]
    assert len(greetings()) == 5


def test_texts_that_cannot_be_spoken_are_named_together(tmp_path: Path) -> None:
    bad = ["fine", " ", "a\0b", "x" * (LONGEST + 1)]
    with pytest.raises(DataError) as error:
        task().read(bad)
    assert [line.strip() for line in error.value.message.splitlines()] == [
        "3 of 4 texts cannot be spoken:",
        "item 1 is blank",
        "item 2 has the control character U+0000",
        f"item 3 has {LONGEST + 1:,} characters, and at most {LONGEST:,} are spoken at once",
    ]
    assert len(task(on_error="skip").read(bad).test or ()) == 1
    with pytest.raises(DataError, match="no such file"):
        task().read(tmp_path / "nowhere.txt")


def test_nothing_says_how_a_text_must_sound() -> None:
    with pytest.raises(RunError, match="no metric") as error:
        task().evaluator({}, [])
    assert "recogniser" in str(error.value.hint)
