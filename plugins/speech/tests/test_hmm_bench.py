"""How fast are the hidden Markov models beside hmmlearn, and how good on spoken digits? CPU seconds, one thread.

Reads the folder `fsdd` of PLAIT_BENCH_DATA, or that folder itself: <speaker>/<digit>_<speaker>_<index>.wav of the
Free Spoken Digit Dataset (Z. Jackson, CC BY-SA 4.0); its official test is index 0 to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean, median
from time import process_time
from typing import Any

import numpy as np
import pytest
import torch
from hmm_examples import fsdd, train_hmm
from torch import Tensor

from plait_speech.audio import Utterance
from plait_speech.features import Features
from plait_speech.hmm.bank import HmmBank
from plait_speech.hmm.estimation import Rules, maximize, split
from plait_speech.hmm.inference import score
from plait_speech.hmm.models import GmmHmm, GmmHmmOptions
from plait_speech.hmm.options import GaussianOptions, flat_start
from plait_speech.hmm.packed import Packing
from plait_speech.hmm.reference import to_hmmlearn
from plait_speech.hmm.training import Corpus, expect

pytestmark = pytest.mark.bench

STATES, ITERATIONS = 8, 5


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> dict[str, list[Utterance]]:
    return fsdd()


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = process_time()
    result = work()
    return result, process_time() - begun


def start(frames: list[Tensor], labels: list[int], mixtures: int) -> HmmBank:
    corpus = Corpus.of(frames, labels, 10, torch.float64)
    options = GaussianOptions(name="bench", topology="left-right", states=STATES)
    bank, _, _ = flat_start(options, corpus, 39, 10, end="any", min_duration=1, reduce=lambda value: value)
    while bank.mixtures < mixtures:
        bank = split(bank, min(2 * bank.mixtures, mixtures), depth=0.2, seed=0)
    return bank


@pytest.mark.parametrize(("mixtures", "em_gain"), [(1, 5), (3, 20)])
def test_em_and_scoring_beside_hmmlearn(digits: dict[str, list[Utterance]], mixtures: int, em_gain: float) -> None:
    pytest.importorskip("hmmlearn")
    frames, labels = Features(rate=8000).extract(digits["train"]), [int(str(each.label)) for each in digits["train"]]
    bank, rules = start(frames, labels, mixtures), Rules(old_means=mixtures > 1)
    seconds: dict[str, float] = {}
    history: dict[str, np.ndarray] = {"hmmlearn": np.zeros(ITERATIONS)}
    banks: dict[str, HmmBank] = {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        now, corpus, spent, values = bank.to(dtype), Corpus.of(frames, labels, 10, dtype), [], []
        for _ in range(ITERATIONS):
            found, expecting = timed(lambda now=now, corpus=corpus: expect(now, corpus))
            (now, _), maximizing = timed(lambda now=now, found=found: maximize(now, found, rules))
            spent.append(expecting + maximizing)
            values.append(float(found.log_likelihood))
        banks[name], seconds[name], history[name] = now, median(spent), np.array(values)
    theirs = []
    for model in range(10):
        reference = to_hmmlearn(bank, model, iterations=ITERATIONS)
        if mixtures > 1:  # fit would run k-means for every state (4 s), whatever init_params says
            reference._init = lambda *_, one=reference: (one._init_covar_priors(), one._fix_priors_shape())
        own = [np.asarray(each, np.float64) for each, label in zip(frames, labels, strict=True) if label == model]
        whole, lengths = np.concatenate(own), [len(each) for each in own]
        _, spent_there = timed(lambda one=reference, x=whole, n=lengths: one.fit(x, n))
        seconds["hmmlearn"] = seconds.get("hmmlearn", 0.0) + spent_there / ITERATIONS
        history["hmmlearn"] += reference.monitor_.history
        theirs.append(reference)
    some = frames[:: len(frames) // 40]
    packing, whole_frames = Packing.of([len(each) for each in frames]), torch.cat(frames)
    for name, one in banks.items():
        double = whole_frames.to(one.mean.dtype)
        seconds[f"score {name}"] = timed(lambda one=one, double=double: score(one, double, packing))[1] / len(frames)
    inputs = [np.asarray(each, np.float64) for each in some]
    expected, spent_scoring = timed(lambda: [[one.score(each) for one in theirs] for each in inputs])
    seconds["score hmmlearn"] = spent_scoring / len(some)
    ours = score(banks["float64"], torch.cat(some).double(), Packing.of([len(each) for each in some]))
    gains = {name: seconds["hmmlearn"] / seconds[name] for name in banks}
    scoring = {name: seconds["score hmmlearn"] / seconds[f"score {name}"] for name in banks}
    print(f"\n{STATES} states, 39 dimensions, {mixtures} mixtures, {len(whole_frames)} frames:")
    print("  EM, ms an iteration:", {name: round(1e3 * seconds[name], 1) for name in ("hmmlearn", *banks)})
    print("  EM, times as fast:", {name: round(gain, 1) for name, gain in gains.items()})
    print("  scoring, us an utterance and model:", round(1e5 * seconds["score hmmlearn"], 1), "hmmlearn,",
          {name: round(1e5 * seconds[f"score {name}"], 1) for name in banks})  # fmt: skip
    print("  scoring, times as fast:", {name: round(gain, 1) for name, gain in scoring.items()})
    np.testing.assert_allclose(history["float64"], history["hmmlearn"], rtol=1e-9)
    np.testing.assert_allclose(history["float32"], history["hmmlearn"], rtol=1e-5)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9)
    assert gains["float64"] >= em_gain
    assert scoring["float64"] >= 15


def test_spoken_digits_by_the_official_protocol(digits: dict[str, list[Utterance]]) -> None:
    accuracy, seconds = [], []
    for seed in range(3):
        fit = partial(train_hmm, GmmHmm, GmmHmmOptions(name="speech/gmm-hmm"), digits["train"], seed=seed)
        model, spent = timed(fit)
        answers = model.predict(digits["test"])
        right = [str(each.index) == own.label for each, own in zip(answers, digits["test"], strict=True)]
        accuracy.append(mean(right))
        seconds.append(spent)
    print(f"\nFSDD, {len(digits['test'])} test utterances: accuracy {accuracy}, mean {mean(accuracy):.4f}; "
          f"fitting, features included: {[round(each, 2) for each in seconds]} CPU-s")  # fmt: skip
    assert mean(accuracy) >= 0.99
    assert max(seconds) <= 5
