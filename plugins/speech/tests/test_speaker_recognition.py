"""Who speaks: named where training knows them, and told apart where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import tone

import plait
from plait.errors import DataError
from plait.evaluation import ClassificationEvaluator, ClassPrediction
from plait_speech.audio import Utterance
from plait_speech.demo_data import synthetic_words
from plait_speech.speaker_recognition.task import SpeakerOptions, SpeakerRecognition
from plait_speech.speaker_recognition.verification import (
    MOST,
    SpeakerEvaluator,
    Trials,
    embedding_of,
    equal_error_rate,
    minimum_detection_cost,
)


def slow_errors(scores: Sequence[float], same: Sequence[bool], weights: Sequence[float]) -> list[tuple[float, float]]:
    """(falsely accepted, falsely rejected) at every threshold, by looking at every trial each time."""
    wanted = sum(weight for weight, is_same in zip(weights, same, strict=True) if is_same)
    others = sum(weights) - wanted
    points = []
    for threshold in [float("inf"), *sorted(set(scores), reverse=True)]:
        rows = list(zip(scores, same, weights, strict=True))
        accepted = sum(weight for score, is_same, weight in rows if score >= threshold and not is_same)
        rejected = sum(weight for score, is_same, weight in rows if score < threshold and is_same)
        points.append((accepted / others, rejected / wanted))
    return points


def slow_rate(points: Sequence[tuple[float, float]]) -> float:
    """Where the line through the points meets the diagonal, by bisection on each of its pieces."""
    for (a0, r0), (a1, r1) in pairwise(points):
        if a1 < r1:
            continue
        low, high = 0.0, 1.0
        for _ in range(60):
            at = (low + high) / 2
            low, high = (at, high) if a0 + at * (a1 - a0) < r0 + at * (r1 - r0) else (low, at)
        return a0 + low * (a1 - a0)
    raise AssertionError("the last threshold accepts all")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rates_equal_those_of_slow_loops(data: st.DataObject) -> None:
    count = data.draw(st.integers(4, 9))
    speakers = ["a", "a", "b", *data.draw(st.lists(st.sampled_from("abc"), min_size=count - 3, max_size=count - 3))]
    # few different vectors, so that many scores tie
    rows = data.draw(st.lists(st.sampled_from([(1, 0), (1, 1), (0, 1), (-1, 1)]), min_size=count, max_size=count))
    weights = np.array(data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)), float)
    trials = Trials.of(np.array(rows, float), speakers)
    scores, same, pairs = [], [], []
    for first in range(count):
        for second in range(first + 1, count):
            one, other = np.array(rows[first], float), np.array(rows[second], float)
            scores.append(round(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)), 9))
            same.append(speakers[first] == speakers[second])
            pairs.append(weights[first] * weights[second])
    accepted, rejected = trials.errors(weights)
    slow = slow_errors(scores, same, pairs)
    assert np.allclose(np.stack([accepted, rejected], 1), slow)
    assert equal_error_rate(accepted, rejected) == pytest.approx(slow_rate(slow), abs=1e-9)
    costs = [(0.01 * miss + 0.99 * alarm) / 0.01 for alarm, miss in slow]
    assert minimum_detection_cost(accepted, rejected) == pytest.approx(min(costs))


@pytest.mark.parametrize(
    ("rows", "rate"),
    [
        ([(1, 0), (1, 0.1), (0, 1), (0.1, 1)], 0.0),
        ([(1, 0), (-1, 0), (0, 1), (0, -1)], 1.0),  # all wrong
        ([(1, 0)] * 4, 0.5),  # nothing to tell them apart by
    ],
)
def test_rates_of_embeddings_that_tell_all_nothing_or_lie(rows: list[tuple[float, float]], rate: float) -> None:
    errors = Trials.of(np.array(rows, float), ["a", "a", "b", "b"]).errors(np.ones(4))
    assert equal_error_rate(*errors) == pytest.approx(rate)
    assert np.isnan(equal_error_rate(*Trials.of(np.eye(2), ["a", "b"]).errors(np.ones(2))))


def answers(speakers: str, *, noise: float = 0.6) -> tuple[list[ClassPrediction], list[Utterance]]:
    generator = np.random.default_rng(3)
    found, examples = [], []
    for number, speaker in enumerate(speakers):
        centre = np.eye(4)["abcd".index(speaker)]
        known = generator.dirichlet(1 + 5 * centre[:2])
        found.append(ClassPrediction(known, (centre + noise * generator.normal(size=4)).astype(np.float32)))
        examples.append(Utterance(tone(), 8_000, speaker, speaker, str(number)))
    return found, examples


def test_known_speakers_are_also_named() -> None:
    given_, examples = answers("aabbab")
    evaluator, named = SpeakerEvaluator(["a", "b"]), ClassificationEvaluator(["a", "b"])
    evaluator.update(given_[:2], examples[:2])
    evaluator.update(given_[2:], examples[2:])
    named.update(given_, examples)
    assert evaluator.compute().items() >= named.compute().items()
    assert {"confusion", "threshold"} <= set(evaluator.details())
    assert evaluator.details()["trials"] == {"same": 6, "different": 9}


def test_strangers_are_only_told_apart() -> None:
    given_, examples = answers("ccddcdab")
    evaluator = SpeakerEvaluator(["a", "b"])
    evaluator.update(given_, examples)
    metrics = evaluator.compute()
    assert set(metrics) == {"eer", "min_dcf"}
    assert 0 < metrics["eer"] < 0.5
    table = evaluator.table()
    assert table["target"].to_pylist() == list("ccddcdab")
    assert evaluator.measure(table, np.ones((2, 8))).tolist() == [metrics["eer"]] * 2
    twice = np.array([[0.0, 0, 1, 1, 1, 1, 0, 0]])  # only d, d, c and d are left
    rows = np.stack([each.embedding for each in given_[2:6] if each.embedding is not None])
    errors = Trials.of(rows.astype(float), list("ddcd")).errors(np.ones(4))
    assert evaluator.measure(table, twice)[0] == pytest.approx(equal_error_rate(*errors))


def test_of_many_recordings_evenly_spaced_ones_are_paired() -> None:
    given_, examples = answers("ab" * MOST)
    evaluator = SpeakerEvaluator(["a", "b"])
    evaluator.update(given_, examples)
    assert sum(evaluator.details()["trials"].values()) == MOST * (MOST - 1) // 2


def test_a_model_without_embedding_lends_its_opinion_of_the_training_speakers() -> None:
    logs = np.log([0.7, 0.2, 0.1])
    assert np.allclose(embedding_of(ClassPrediction(np.array([0.7, 0.2, 0.1]))), logs - logs.mean())
    assert np.isfinite(embedding_of(ClassPrediction(np.array([1.0, 0.0])))).all()


def task(**options: object) -> SpeakerRecognition:
    return SpeakerRecognition(options=SpeakerOptions(**options), seed=0)


def test_speakers_may_be_strangers_to_training() -> None:
    everyone = [each for part in synthetic_words().values() for each in part]
    apart = task(split="speaker", test_speaker=("ada", "bo"))
    splits = apart.read(everyone)
    assert apart.problem(splits)["labels"] == ["cleo", "dan"]
    assert splits.test is not None
    assert Counter(each.label for each in splits.test) == {"ada": 70, "bo": 70}  # type: ignore[attr-defined]  # it is a sequence


def test_one_speaker_cannot_be_verified() -> None:
    everyone = [each for part in synthetic_words().values() for each in part]
    with pytest.raises(DataError, match="test has one speaker only: 'ada'") as error:
        task(split="speaker", test_speaker="ada").read(everyone)
    assert "data.test_speaker=" in str(error.value.hint)
    pair = {"train": everyone, "test": [everyone[0], everyone[-1]]}
    with pytest.raises(DataError, match="no two are by the same"):
        task().read(pair)


def test_a_network_tells_strangers_apart(tmp_path: Path) -> None:
    everyone = [each for part in synthetic_words().values() for each in part]
    run = plait.train(
        "speech/speaker-recognition", {"name": "speech/tdnn", "width": 32, "mels": 20, "step": 0.02},
        {"source": everyone, "split": "speaker", "test_speaker": ["ada", "dan"]},
        trainer={"epochs": 8}, out=tmp_path / "run",
    )  # fmt: skip
    assert set(run.metrics["test"]) >= {"eer", "min_dcf"}
    assert "accuracy" not in run.metrics["test"]
    assert run.metrics["test"]["eer"] < 0.25
    tell = plait.load(run.path)
    one, other, stranger = (
        np.array(tell(each).outputs["embedding"]) for each in (everyone[0], everyone[1], everyone[-1])
    )
    assert one.shape == (64,)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(one, other) > cosine(one, stranger)
