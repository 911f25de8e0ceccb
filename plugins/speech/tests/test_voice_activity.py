"""Speech is found in recordings, by its level and by what it was fitted to, and judged frame by frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from recordings import tone

import plait
from plait.errors import DataError
from plait_speech.audio import Samples, Utterance
from plait_speech.voice_activity import trim
from plait_speech.voice_activity.energy import EnergyDetector
from plait_speech.voice_activity.evaluation import ActivityEvaluator
from plait_speech.voice_activity.models import _best
from plait_speech.voice_activity.recordings import marked, synthetic_pauses
from plait_speech.voice_activity.segments import (
    Segment,
    flags_of,
    joined,
    read_segments,
    segments_of,
    smoothed,
)
from plait_speech.voice_activity.task import ActivityOptions, VoiceActivity

RATE = 8_000


def beeps(*times: tuple[float, float], seconds: float = 3.0, noise: float = 1e-3) -> Samples:
    """Tones in noise."""
    samples = noise * np.random.default_rng(0).normal(size=round(seconds * RATE)).astype(np.float32)
    for start, end in times:
        samples[round(start * RATE) : round(end * RATE)] += tone(end - start, rate=RATE)
    return samples.astype(np.float32)


flags = st.lists(st.booleans(), min_size=1, max_size=60).map(np.array)


# Segments


@given(flags)
def test_segments_and_frames_are_the_same_thing(active: Any) -> None:
    seconds = 0.01 * len(active) + 0.015
    found = segments_of(active, step=0.01, window=0.025, seconds=seconds)
    assert np.array_equal(flags_of(found, step=0.01, window=0.025, frames=len(active)), active)
    assert all(before.end < after.start for before, after in pairwise(found))
    assert all(0 <= each.start < each.end <= seconds + 1e-4 for each in found)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50)), max_size=8))
def test_smoothed_segments_have_no_short_pauses_and_no_clicks(drawn: list[tuple[int, int]]) -> None:
    given_ = [Segment(start / 100, (start + length) / 100) for start, length in drawn]
    found = smoothed(given_, gap=0.1, shortest=0.05, margin=0.02, seconds=4.0)
    assert all(after.start - before.end > 0.1 - 2 * 0.02 - 1e-9 for before, after in pairwise(found))
    assert all(each.end - each.start >= 0.05 for each in found)
    covered = joined(given_, gap=0.1)
    kept = [each for each in covered if each.end - each.start >= 0.05]
    assert all(any(each.start >= whole.start and each.end <= whole.end for whole in found) for each in kept)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("speech", "expected a list"),
        ([{"start": 1.0}], "segment 0 is"),
        ([[0.0, 1.0], [2.0, 2.0]], "segment 1 is from 2 to 2 s"),
        ([[-1.0, 1.0]], "expected 0 <= start < end"),
        ([[0.0, float("nan")]], "segment 0 is"),
    ],
)
def test_segments_that_are_none_are_named(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_segments(value)


# Levels


@pytest.mark.parametrize("noise", [0.0, 1e-3, 3e-2])
def test_tones_are_found_in_any_noise(noise: float) -> None:
    times = [(0.5, 1.0), (1.6, 2.2)]
    found = EnergyDetector().segments(beeps(*times, noise=noise), RATE)
    assert np.allclose(found, times, atol=0.03)


def test_a_threshold_follows_noise_that_grows() -> None:
    times = [(1.0, 1.5), (4.0, 4.5), (7.0, 7.5)]
    noise = np.random.default_rng(0).normal(size=8 * RATE) * np.geomspace(2e-3, 2e-2, 8 * RATE)  # by 20 dB
    found = EnergyDetector().segments(beeps(*times, seconds=8, noise=0) + noise.astype(np.float32), RATE)
    assert np.allclose(found, times, atol=0.05)


@pytest.mark.parametrize("samples", [np.zeros(8_000, np.float32), beeps(), np.ones(1, np.float32)])
def test_where_nothing_stands_out_nobody_speaks_and_nothing_is_trimmed(samples: Samples) -> None:
    assert EnergyDetector().segments(samples, RATE) == []
    assert trim(samples, RATE) == (0, len(samples))


def test_trimming_keeps_the_speech_and_a_margin() -> None:
    start, end = trim(beeps((0.8, 1.1), (1.5, 1.9)), RATE, margin=0.1)
    assert start / RATE == pytest.approx(0.7, abs=0.03)
    assert end / RATE == pytest.approx(2.0, abs=0.03)


# Metrics


def slow(found: Sequence[Segment], wanted: Sequence[Segment], seconds: float) -> tuple[int, int, int, int]:
    def inside(segments: Sequence[Segment], frame: int) -> bool:
        return any(start <= 0.01 * frame + 0.005 < end for start, end in segments)

    pairs = [(inside(found, frame), inside(wanted, frame)) for frame in range(round(seconds * 100))]
    return (
        pairs.count((True, True)),
        pairs.count((False, True)),
        pairs.count((True, False)),
        pairs.count((False, False)),
    )


def test_frames_are_counted_as_a_slow_loop_counts_them() -> None:
    examples = synthetic_pauses()["test"][:3]
    answers = [[Segment(0.1 * number, 0.1 * number + 0.4), Segment(0.9, 1.0)] for number in range(3)]
    evaluator = ActivityEvaluator()
    evaluator.update(answers[:1], examples[:1])
    evaluator.update(answers[1:], examples[1:])
    counted = [slow(given_, marked(each) or (), each.seconds) for given_, each in zip(answers, examples, strict=True)]
    hit, missed, false, quiet = (sum(column) for column in zip(*counted, strict=True))
    assert evaluator.details() == {"hit": hit, "missed": missed, "false": false, "quiet": quiet}
    assert evaluator.compute() == {
        "f1": pytest.approx(2 * hit / (2 * hit + missed + false)),
        "frame_error": pytest.approx((missed + false) / (hit + missed + false + quiet)),
        "miss_rate": pytest.approx(missed / (hit + missed)),
        "false_alarm_rate": pytest.approx(false / (false + quiet)),
    }
    table = evaluator.table()
    assert evaluator.measure(table, np.ones((1, 3)))[0] == evaluator.compute()["f1"]
    alone = ActivityEvaluator()
    alone.update(answers[1:2], examples[1:2])
    assert evaluator.measure(table, np.array([[0.0, 2.0, 0.0]]))[0] == pytest.approx(alone.compute()["f1"])


def test_unmarked_recordings_are_not_judged() -> None:
    with pytest.raises(DataError, match="quiz: has no segments"):
        ActivityEvaluator().update([[]], [Utterance(tone(), RATE, id="quiz")])


# Models


def test_a_fitted_model_beats_levels_on_a_speaker_it_never_heard(tmp_path: Path) -> None:
    run = plait.train("speech/voice-activity-detection", data="synthetic-pauses", out=tmp_path / "run")
    assert run.metrics["test"]["f1"] > 0.9  # 0.943 when this was written; levels alone 0.840
    beaten = run.info["baselines"]["speech/energy-vad"]["test"]["f1"]
    assert run.metrics["test"]["f1"] > beaten > 0.7
    example = synthetic_pauses()["test"][0]
    answer = plait.load(run.path)(example)
    assert answer.outputs["segments"] == answer.prediction
    assert answer.prediction[0]["start"] == pytest.approx(example.more["segments"][0].start, abs=0.1)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=7), st.integers(0, 10))
def test_the_best_path_is_the_best_of_all(scores: list[tuple[float, float]], seed: int) -> None:
    import torch

    prior, move = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(seed)).double().log_softmax(-1)
    values = torch.tensor(scores, dtype=torch.float64)

    def score(path: Sequence[int]) -> float:
        steps = sum(float(move[a, b]) for a, b in pairwise(path))
        return float(prior[0, path[0]]) + steps + sum(float(values[at, state]) for at, state in enumerate(path))

    every = [[(number >> bit) & 1 for bit in range(len(scores))] for number in range(2 ** len(scores))]
    found = _best(values, prior[0], move).astype(int).tolist()
    assert score(found) == pytest.approx(max(map(score, every)))


# Reading


def activity(**options: Any) -> VoiceActivity:
    return VoiceActivity(options=ActivityOptions(**options), seed=0)


def test_marks_are_read_from_tables(tmp_path: Path) -> None:
    lines = []
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", beeps((0.5, 1.0 + 0.1 * number)), RATE)
        lines.append({"audio": f"{number}.wav", "segments": [{"start": 0.5, "end": 1.0 + 0.1 * number}]})
    table = tmp_path / "marks.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    splits = activity(test_fraction=0.5).read(table)
    assert splits.train is not None
    assert splits.test is not None
    assert len(splits.test) == 3
    assert [round(1.0 + 0.1 * int(Path(each.id).stem), 2) for each in splits.test] == [  # type: ignore[attr-defined]  # it is a sequence
        each.more["segments"][0].end
        for each in splits.test  # type: ignore[attr-defined]  # as above
    ]
    quoted = json.dumps(lines[0]["segments"]).replace('"', '""')
    (tmp_path / "marks.csv").write_text(f'audio,segments\n0.wav,"{quoted}"\n1.wav,[]\n', encoding="utf-8")
    read = activity(split="random", test_fraction=0, valid_fraction=0).read(tmp_path / "marks.csv")
    assert read.train is not None
    assert [marked(read.train[index]) for index in range(2)] == [(Segment(0.5, 1.0),), ()]


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        (None, "is not marked"),
        ([[0.0, 9.0]], "marked until 9 s, lasts 3.000 s"),
        ("[[0.0", "has the segments '\\[\\[0.0'; expected JSON"),
    ],
)
def test_recordings_that_cannot_be_used_are_named(tmp_path: Path, segments: object, words: str) -> None:
    soundfile.write(tmp_path / "a.wav", beeps((0.5, 1.0)), RATE)
    lines = [{"audio": "a.wav", "segments": segments}, {"audio": "a.wav", "segments": segments and type(segments)()}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        activity().read(tmp_path / "t.jsonl")


def test_silence_is_an_answer_and_no_error() -> None:
    vad = plait.load("speech/energy-vad")
    silent, broken = vad.predict([(np.zeros(RATE, np.float32), RATE), "nowhere.wav"])
    assert silent.prediction == []
    assert broken.error == "nowhere.wav no such file"


def test_the_made_up_recordings_say_where_their_words_are() -> None:
    parts = synthetic_pauses()
    assert {name: len(part) for name, part in parts.items()} == {"train": 36, "test": 12}
    assert not {each.speaker for each in parts["train"]} & {each.speaker for each in parts["test"]}
    for each in parts["test"]:
        segments = marked(each)
        assert segments
        inside = flags_of(segments, step=1 / RATE, window=1 / RATE, frames=len(each.samples))
        assert each.samples[inside].std() > 1.5 * each.samples[~inside].std()
