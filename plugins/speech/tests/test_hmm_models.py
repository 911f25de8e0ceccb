"""The two hidden-Markov classifiers through the life cycle: start, step, finish, predict, save, load, resume."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hmm_examples import tones

from plait.engine.local import LocalEngine
from plait.errors import DataError, RecipeError
from plait.model import State
from plait.options import EngineOptions
from plait.weights import load_tensors, save_tensors
from plait_speech.audio import Utterance
from plait_speech.hmm.classifier import HmmClassifier
from plait_speech.hmm.models import GmmHmm, GmmHmmOptions
from plait_speech.hmm.reference import Hmmlearn, HmmlearnOptions

PROBLEM = {"labels": ["up", "down"], "rate": 8000}
WORDS = tones(16)
ENGINE = LocalEngine(EngineOptions(device="cpu"))


def made(train: list[Utterance] = WORDS, kind: type[HmmClassifier] = GmmHmm, seed: int = 0, **options: Any) -> Any:
    options = {"name": "speech/test", "states": 3, "mixtures": 2, "split_every": 2, "deltas": 0,
               "topology": "left-right", "tolerance": 1e-4, **options}  # fmt: skip
    chosen = GmmHmmOptions(**options) if kind is GmmHmm else HmmlearnOptions(**options)
    return kind.create(options=chosen, problem=PROBLEM, train=train, seed=seed)


def fitted(train: list[Utterance] = WORDS, steps: int = 6, **options: Any) -> tuple[Any, list[dict[str, float]]]:
    model = made(train, **options)
    state, logged = model.start(train, ENGINE), []
    for _ in range(steps):
        state, progress = model.step(train, state, ENGINE)
        logged.append(dict(progress.metrics))
        if progress.converged:
            break
    model.finish(state)
    return model, logged


@pytest.mark.parametrize("topology", ["left-right", "bakis", "ergodic"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_it_tells_words_apart_that_it_never_heard(topology: str, precision: str) -> None:
    model, logged = fitted(topology=topology, precision=precision)
    new = tones(10, seed=1)
    answers = model.predict(new)
    assert [PROBLEM["labels"][each.index] for each in answers] == [each.label for each in new]
    assert all(each.probabilities.sum() == pytest.approx(1) for each in answers)
    assert [each["mixtures"] for each in logged[:4]] == [1, 1, 2, 2]
    assert model.predict([]) == []


@pytest.mark.parametrize(
    "options",
    [{}, {"mixtures": 8}, {"viterbi_iterations": 20}, {"end": "last"}, {"min_duration": 2}, {"precision": "float32"},
     {"split_depth": 0.5, "mixtures": 4, "viterbi_iterations": 0}, {"normalize": "global"}],
)  # fmt: skip
def test_the_log_likelihood_never_falls_not_even_at_a_split(options: dict[str, Any]) -> None:
    _, logged = fitted(steps=14, **options)
    values = [each["log_likelihood"] for each in logged]
    assert all(later >= before - 1e-6 * abs(before) for before, later in pairwise(values))
    assert values[-1] > values[0]
    assert logged[-1]["mixtures"] == options.get("mixtures", 2)


def test_it_converges_once_gains_are_small() -> None:
    _, logged = fitted(steps=200, tolerance=1e-3)
    assert len(logged) < 60
    assert logged[-1]["mixtures"] == 2


@pytest.mark.parametrize("kind", [GmmHmm, Hmmlearn])
def test_stopped_anywhere_and_resumed_it_ends_with_the_same_bits(kind: type[HmmClassifier], tmp_path: Path) -> None:
    if kind is Hmmlearn:
        pytest.importorskip("hmmlearn")
    whole, logged = fitted(kind=kind, steps=5)
    for stop in range(1, 5):
        model = made(kind=kind)
        state = model.start(WORDS, ENGINE)
        for _ in range(stop):
            state, _ = model.step(WORDS, state, ENGINE)
        save_tensors(state.tensors, tmp_path / "state.safetensors")
        values = json.loads(json.dumps(dict(state.values)))
        again, state = made(kind=kind), State(load_tensors(tmp_path / "state.safetensors"), values)
        for index in range(stop, 5):
            state, progress = again.step(WORDS, state, ENGINE)
            assert dict(progress.metrics) == logged[index]
        again.finish(state)
        for name, tensor in whole.bank.tensors().items():
            assert torch.equal(tensor, again.bank.tensors()[name]), name


@pytest.mark.parametrize("options", [{}, {"topology": "ergodic"}, {"min_duration": 2, "end": "last"}])
def test_saved_and_loaded_it_gives_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    model, _ = fitted(steps=3, **options)
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hmm.json", "model.safetensors"]
    copy = GmmHmm.load(tmp_path, options=model.options, problem=PROBLEM)
    assert torch.equal(copy.log_likelihoods(WORDS), model.log_likelihoods(WORDS))
    assert copy.bank.shape() == model.bank.shape()


def test_a_prediction_does_not_depend_on_its_neighbours() -> None:
    model, _ = fitted(steps=3)
    together = model.log_likelihoods(WORDS)
    alone = torch.cat([model.log_likelihoods([each]) for each in WORDS])
    assert torch.allclose(together, alone, rtol=1e-12)


def test_the_seed_draws_the_splits_and_nothing_else() -> None:
    one, other, third = (fitted(steps=5, seed=seed)[0].bank for seed in (0, 0, 1))
    assert torch.equal(one.mean, other.mean)
    assert not torch.equal(one.mean, third.mean)


def test_an_utterance_of_one_frame_is_trained_on_and_predicted() -> None:
    click = Utterance(np.full(200, 0.1, np.float32) * np.sin(np.arange(200, dtype=np.float32)), 8000, "up", "", "click")
    model, _ = fitted([*WORDS, click])
    assert np.isfinite(model.predict([click])[0].probabilities).all()
    assert len(model.align([click])[0].states) == 1


def test_utterances_too_short_for_a_model_that_must_end_are_named_before_training() -> None:
    short = Utterance(WORDS[0].samples[:280], 8000, "up", "", "short.wav")  # 2 frames
    model = made([*WORDS, short], end="last")
    with pytest.raises(DataError, match=r"1 utterances have fewer frames than the 3 .* short\.wav") as error:
        model.start([*WORDS, short], ENGINE)
    assert "model.end=any" in str(error.value.hint)
    trained, _ = fitted(end="last")
    assert np.isfinite(trained.predict([short])[0].probabilities).all()


@pytest.mark.parametrize("kind", [GmmHmm, Hmmlearn])
def test_a_class_without_utterances_is_named_and_never_wins(
    kind: type[HmmClassifier], caplog: pytest.LogCaptureFixture
) -> None:
    if kind is Hmmlearn:
        pytest.importorskip("hmmlearn")
    with caplog.at_level(logging.WARNING, logger="plait"):
        model, _ = fitted([each for each in WORDS if each.label == "up"], kind=kind)
    assert "label 'down' has no training utterance" in caplog.text
    assert [each.probabilities.tolist() for each in model.predict(WORDS)] == [[1.0, 0.0]] * len(WORDS)
    assert model.dead == []


def test_a_class_of_one_utterance_and_silence_become_no_nan(caplog: pytest.LogCaptureFixture) -> None:
    silence = Utterance(np.zeros(2400, np.float32), 8000, "down", "", "silence")
    with caplog.at_level(logging.WARNING, logger="plait"):
        model, _ = fitted([*(each for each in WORDS if each.label == "up"), silence], mixtures=4, steps=12)
    assert all(not tensor.isnan().any() for tensor in model.bank.tensors().values())
    assert np.isfinite(np.stack([each.probabilities for each in model.predict([*WORDS, silence])])).all()


def test_a_state_that_died_is_named_with_its_label(caplog: pytest.LogCaptureFixture) -> None:
    model = made(topology="ergodic", mixtures=1)
    state = model.start(WORDS, ENGINE)
    state.tensors["mean"][1, 2] = 1e4
    with caplog.at_level(logging.WARNING, logger="plait"):
        state, progress = model.step(WORDS, state, ENGINE)
    assert "no frames are left for label 'down', state 2" in caplog.text
    assert progress.metrics["dead"] == 1
    model.finish(state)
    assert model.dead == [[1, 2, None]]
    assert (state.tensors["mean"][1, 2] == 1e4).all()


def test_unlabelled_training_data_and_impossible_options_are_refused() -> None:
    nameless = [Utterance(WORDS[0].samples, 8000, "upp", "", "typo.wav")]
    with pytest.raises(DataError, match=r"typo\.wav: label 'upp' is not one of the 2") as error:
        made(nameless).start(nameless, ENGINE)
    assert "up" in str(error.value.hint)
    with pytest.raises(RecipeError, match="min_duration needs states in an order"):
        made(topology="ergodic", min_duration=2).start(WORDS, ENGINE)
    with pytest.raises(RecipeError, match="equal parts of each utterance or from a run"):
        made(weights="there.safetensors")
    with pytest.raises(ValueError, match="a warp lies between"):
        made(warps=[3.0])
    with pytest.raises(RecipeError, match="coefficients"):
        made(coefficients=40)


def test_alignments_run_through_the_states_in_order() -> None:
    model, _ = fitted()
    for path, own in zip(model.align(WORDS[:4]), model.features.extract(WORDS[:4]), strict=True):
        assert len(path.states) == len(own)
        assert all(0 <= later - before <= 1 for before, later in pairwise(path.states.tolist()))
    with pytest.raises(DataError, match="is none of the model's"):
        model.align([Utterance(WORDS[0].samples, 8000)])


def test_frames_heard_one_by_one_end_at_the_score_of_the_whole() -> None:
    model, _ = fitted()
    hearer = model.online()
    for frame in model.features.extract(WORDS[:1])[0].double():
        hearer.push(frame[None])
    assert torch.allclose(hearer.finish(), model.log_likelihoods(WORDS[:1])[0], rtol=1e-12)


@pytest.mark.parametrize("topology", ["left-right", "bakis", "ergodic"])
def test_hmmlearn_itself_fits_the_same_models(topology: str) -> None:
    pytest.importorskip("hmmlearn")
    options: dict[str, Any] = {"mixtures": 1, "topology": topology, "tolerance": 0, "steps": 5}
    ours, logged = fitted(viterbi_iterations=0, **options)
    theirs, reference = fitted(kind=Hmmlearn, **options)
    np.testing.assert_allclose(
        [each["log_likelihood"] for each in logged], [each["log_likelihood"] for each in reference], rtol=1e-9
    )
    assert torch.allclose(ours.bank.mean, theirs.bank.mean, rtol=1e-7, atol=1e-7)
    assert torch.allclose(ours.log_likelihoods(WORDS), theirs.log_likelihoods(WORDS), rtol=1e-7)


def test_hmmlearn_with_mixtures_splits_and_predicts(tmp_path: Path) -> None:
    pytest.importorskip("hmmlearn")
    model, logged = fitted(kind=Hmmlearn, steps=5)
    assert [each["mixtures"] for each in logged] == [1, 1, 2, 2, 2]
    assert [PROBLEM["labels"][each.index] for each in model.predict(WORDS)] == [each.label for each in WORDS]
    model.save(tmp_path)
    copy = Hmmlearn.load(tmp_path, options=model.options, problem=PROBLEM)
    assert torch.equal(copy.log_likelihoods(WORDS), model.log_likelihoods(WORDS))


def test_where_scaling_underflows_hmmlearn_goes_on_with_logarithms() -> None:
    pytest.importorskip("hmmlearn")
    model = made(kind=Hmmlearn, mixtures=1)
    state = model.start(WORDS, ENGINE)
    state.tensors["mean"].add_(60)  # every density is far below the smallest number
    state, progress = model.step(WORDS, state, ENGINE)
    assert np.isfinite(progress.metrics["log_likelihood"])
    assert not any(tensor.isnan().any() for tensor in state.tensors.values())


def test_without_hmmlearn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hmmlearn", None)
    with pytest.raises(RecipeError, match="hmmlearn is not installed") as error:
        made(kind=Hmmlearn).start(WORDS, ENGINE)
    assert "plait-speech[hmmlearn]" in str(error.value.hint)


def test_warped_copies_are_trained_on_beside_the_recordings() -> None:
    plain, twice = (made(warps=warps) for warps in ((1.0,), (0.92, 1.08)))
    counts = []
    for model in (plain, twice):
        state = model.start(WORDS, ENGINE)
        state, _ = model.step(WORDS, state, ENGINE)
        model.finish(state)
        counts.append(model._read(WORDS).frames)
    assert counts[1] == 2 * counts[0]
    assert not torch.equal(plain.bank.mean, twice.bank.mean)
    new = tones(6, seed=3)
    assert [PROBLEM["labels"][each.index] for each in twice.predict(new)] == [each.label for each in new]
