"""Discrete hidden Markov models on a codebook: quantisation, hmmlearn's EM, and what is scored without hmmlearn."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hmm_examples import tones, train_hmm

from plait.engine.local import LocalEngine
from plait.errors import DataError, RecipeError
from plait.options import EngineOptions
from plait_speech.hmm.codebook import CodebookHmm, CodebookOptions, clusters, nearest

PROBLEM = {"labels": ["up", "down"], "rate": 8000}
WORDS = tones(16)
ENGINE = LocalEngine(EngineOptions(device="cpu"))


def options(**changes: Any) -> CodebookOptions:
    return CodebookOptions(**{"name": "speech/hmmlearn-codebook", "states": 3, "codes": 16, "deltas": 0, **changes})


def test_clusters_find_groups_and_every_frame_its_nearest() -> None:
    rng = np.random.default_rng(0)
    groups = torch.tensor([[0.0, 0.0], [10, 0], [0, 10]], dtype=torch.float64)
    frames = groups.repeat(50, 1) + 0.1 * torch.from_numpy(rng.normal(size=(150, 2)))
    centres = clusters(frames, 3, seed=4)
    assert torch.equal(centres, clusters(frames, 3, seed=4))
    distances = (frames[:, None] - centres).square().sum(-1)
    assert torch.equal(nearest(frames, centres), distances.argmin(1))
    whole = (frames - frames.mean(0)).square().sum()
    assert distances.amin(1).sum() < whole


@pytest.mark.parametrize("topology", ["left-right", "ergodic"])
def test_it_tells_words_apart_that_it_never_heard_and_scores_as_hmmlearn_does(topology: str, tmp_path: Path) -> None:
    hmm = pytest.importorskip("hmmlearn.hmm")
    model = train_hmm(CodebookHmm, options(topology=topology), WORDS, problem=PROBLEM)
    new = tones(10, seed=1)
    assert [PROBLEM["labels"][each.index] for each in model.predict(new)] == [each.label for each in new]
    theirs = hmm.CategoricalHMM(3, n_features=16)
    theirs.startprob_, theirs.transmat_, theirs.emissionprob_ = (
        model.tensors[name][1].numpy() for name in ("start", "transitions", "emission")
    )
    frames = model.features.extract(new[:3])
    codes = [nearest(each.double(), model.tensors["codebook"])[:, None].numpy() for each in frames]
    expected = [theirs.score(each) for each in codes]
    np.testing.assert_allclose(model.log_likelihoods(new[:3])[:, 1].numpy(), expected, rtol=1e-9)
    model.save(tmp_path)
    copy = CodebookHmm.load(tmp_path, options=model.options, problem=PROBLEM)
    assert torch.equal(copy.log_likelihoods(new), model.log_likelihoods(new))
    assert model.predict([]) == []


def test_the_log_likelihood_never_falls() -> None:
    pytest.importorskip("hmmlearn")
    model = CodebookHmm.create(options=options(), problem=PROBLEM, train=WORDS, seed=0)
    state, values = model.start(WORDS, ENGINE), []
    for _ in range(8):
        state, progress = model.step(WORDS, state, ENGINE)
        values.append(progress.metrics["log_likelihood"])
    assert all(after >= before - 1e-9 for before, after in pairwise(values))
    assert values[-1] > values[0]


def test_a_class_without_utterances_never_wins_and_few_frames_are_named(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("hmmlearn")
    with caplog.at_level(logging.WARNING, logger="plait"):
        only = [each for each in WORDS if each.label == "up"]
        model = train_hmm(CodebookHmm, options(), only, problem=PROBLEM)
    assert "label 'down' has no training utterance" in caplog.text
    assert {each.index for each in model.predict(WORDS)} == {0}
    with pytest.raises(DataError, match="training frames make no 4096 codes"):
        train_hmm(CodebookHmm, options(codes=4096), WORDS, problem=PROBLEM)


def test_without_hmmlearn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hmmlearn", None)
    with pytest.raises(RecipeError, match="hmmlearn is not installed"):
        train_hmm(CodebookHmm, options(), WORDS, problem=PROBLEM)
