"""Inputs, predictions and demo data of word recognition."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import tone

from plait.errors import DataError, InputError
from plait.evaluation import ClassPrediction
from plait_speech.audio import Utterance
from plait_speech.classification import ClassificationOptions
from plait_speech.demo_data import synthetic_words
from plait_speech.word_recognition.task import WordRecognition

PROBLEM = {"labels": ["no", "yes"], "rate": 8_000, "seconds": {"median": 0.2, "longest": 0.2}}


@pytest.fixture
def task() -> WordRecognition:
    return WordRecognition(options=ClassificationOptions(max_seconds=2), seed=0)


def test_parse_takes_what_is_audio(task: WordRecognition, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 8_000, subtype="FLOAT")
    path = tmp_path / "a.wav"
    for value in (path, str(path), path.read_bytes(), (tone(), 8_000), Utterance(tone(), 8_000)):
        example = task.parse({"audio": value}, PROBLEM)
        assert np.array_equal(example.samples, tone())
        assert example.label is None


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"audio": "nowhere.wav"}, "nowhere.wav no such file"),
        ({"audio": (np.zeros(4_000), 8_000)}, "audio is silent"),
        ({"audio": (np.ones(1), 8_000)}, "1 sample at 8000 Hz"),
        ({"audio": (tone(3.0), 8_000)}, "at most 2 s"),
        ({"audoi": "a.wav"}, "no input 'audoi'"),
        ({}, "input 'audio' is missing"),
    ],
)
def test_parse_refuses_the_rest(task: WordRecognition, inputs: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        task.parse(inputs, PROBLEM)


def test_present_names_the_word(task: WordRecognition) -> None:
    answer = task.present(ClassPrediction(np.array([0.25, 0.75])), PROBLEM)
    assert (answer.prediction, answer.scores, answer.outputs) == ("yes", {"no": 0.25, "yes": 0.75}, {"label": "yes"})


def test_the_demo_data_are_the_same_everywhere(task: WordRecognition) -> None:
    splits = task.read(synthetic_words())
    assert [len(splits[name] or ()) for name in splits.names()] == [216, 24, 40]
    problem = task.problem(splits)
    assert problem["rate"] == 8_000
    assert len(problem["labels"]) == 10
    first = synthetic_words()["train"][0]
    assert first.id == "ada/sa-0"
    np.testing.assert_allclose(first.samples[800:804], FIRST, atol=1e-6)
    loudest = max(float(np.abs(each.samples).max()) for each in synthetic_words()["train"])
    assert loudest < 1


FIRST = [0.0468151, 0.0558731, 0.0171963, -0.0076781]


def test_espeak_speaks_the_digits_in_voices_that_no_two_splits_share() -> None:
    pytest.importorskip("espeakng_loader")
    from plait_speech.synthesis import spoken_digits

    parts = spoken_digits()
    assert {name: len(part) for name, part in parts.items()} == {"train": 720, "test": 240}
    assert not {each.speaker for each in parts["train"]} & {each.speaker for each in parts["test"]}
    every = [each for part in parts.values() for each in part]
    assert len({each.samples.tobytes() for each in every}) == len(every)
    assert all(0.1 < each.seconds < 1 for each in every)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from plait_speech import synthesis

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    synthesis.spoken_digits.cache_clear()
    with pytest.raises(DataError, match="is not installed") as error:
        synthesis.spoken_digits()
    assert "plait-speech[synth]" in str(error.value.hint)
