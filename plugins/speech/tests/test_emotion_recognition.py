"""Moods are told from how something is said, and judged by speakers that nobody trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import MakeFolder

import plait
from plait.errors import DataError
from plait_speech.classification import ClassificationOptions
from plait_speech.demo_data import synthetic_emotions, synthetic_words
from plait_speech.emotion_recognition.task import EmotionRecognition


def task(**options: object) -> EmotionRecognition:
    return EmotionRecognition(options=ClassificationOptions(**options), seed=0)


def test_made_up_moods_differ_as_moods_do() -> None:
    parts = synthetic_emotions()
    assert {name: len(part) for name, part in parts.items()} == {"train": 120, "test": 40}
    every = [each for part in parts.values() for each in part]
    length, level = (
        {
            mood: float(np.mean([of(each) for each in every if each.label == mood]))
            for mood in ("sad", "neutral", "angry")
        }
        for of in (lambda each: each.seconds, lambda each: float(np.abs(each.samples).max()))
    )
    assert length["sad"] > length["neutral"] > length["angry"]
    assert level["sad"] < level["neutral"] < level["angry"]
    assert not {each.samples.tobytes() for each in every} & {
        each.samples.tobytes() for each in synthetic_words()["train"]
    }


def test_each_speaker_is_left_out_in_turn() -> None:
    every = [each for part in synthetic_emotions().values() for each in part]
    for speaker in ("ada", "bo", "cleo", "dan"):
        splits = task(test_speaker=speaker).read(every)
        assert splits.test is not None
        assert {each.speaker for each in splits.test} == {speaker}  # type: ignore[attr-defined]  # it is a sequence
        assert splits.train is not None
        assert speaker not in {each.speaker for each in splits.train}  # type: ignore[attr-defined]  # as above


def test_every_mood_counts_the_same_however_rare(tmp_path: Path) -> None:
    run = plait.train(
        "speech/emotion-recognition", {"name": "speech/gmm-hmm", "states": 3, "mixtures": 1, "step": 0.02},
        "synthetic-emotions", trainer={"iterations": 6}, out=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics["test"]["recall_macro"] > 0.4  # by chance 0.25; the speaker was never heard
    evaluator = task().evaluator(plait.load(run.path).artifact.problem, [])  # type: ignore[union-attr]  # no composition
    assert evaluator.primary is not None
    assert evaluator.primary.name == "recall_macro"


def test_a_division_by_speaker_needs_speakers(make_folder: MakeFolder) -> None:
    folder = make_folder("happy/a.wav", "happy/b.wav", "sad/a.wav", "sad/b.wav")
    with pytest.raises(DataError, match="4 of 4 recordings name no speaker") as error:
        task(split="speaker").read(folder)
    assert "data.fields.speaker=COLUMN" in str(error.value.hint)
    table = folder / "moods.csv"
    table.write_text("audio,label,speakr\n" + "".join(f"{m}/{n}.wav,{m},{n}\n" for m in ("happy", "sad") for n in "ab"))
    with pytest.raises(DataError, match="name no speaker"):
        task(split="speaker").read(table)
    read = task(split="speaker", fields={"speaker": "speakr"}, test_speaker="b").read(table)
    assert read.names() == ["train", "test"]
    with pytest.raises(DataError, match="nobody is called 'bb'") as unknown:
        task(fields={"speaker": "speakr"}, test_speaker="bb").read(table)
    assert "did you mean 'b'" in str(unknown.value.hint)
