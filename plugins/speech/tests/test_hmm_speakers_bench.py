"""How good is speech/gmm-hmm on speakers that nobody trained on, with options chosen on training speakers only?

Nested: for each speaker that is tested, every choice of `CHOICES` is fitted on two of the three others and judged on
the third, three times; the best on average is fitted on all three, and only that model hears the tested speaker.
Reads FSDD as test_hmm_bench.py does.
"""

from __future__ import annotations

from itertools import combinations, product
from statistics import mean
from time import process_time
from typing import Any

import pytest
import torch
from hmm_examples import fsdd, train_hmm

from plait_speech.audio import Utterance
from plait_speech.hmm.models import GmmHmm, GmmHmmOptions

pytestmark = pytest.mark.bench(minutes=2)

CHOICES: list[dict[str, Any]] = [
    {"mixtures": mixtures, "coefficients": coefficients, "warps": warps}
    for mixtures, coefficients, warps in product((1, 2, 4), (10, 13), ((1.0,), (0.92, 1.08)))
]


def fitted(train: list[Utterance], choice: dict[str, Any]) -> GmmHmm:
    return train_hmm(GmmHmm, GmmHmmOptions(name="speech/gmm-hmm", precision="float32", **choice), train)


def accuracy(model: GmmHmm, test: list[Utterance]) -> float:
    answers = model.predict(test)
    return mean(str(each.index) == own.label for each, own in zip(answers, test, strict=True))


def test_speakers_that_nobody_trained_on() -> None:
    torch.set_num_threads(1)
    everyone = [each for part in fsdd().values() for each in part]
    speakers = sorted({each.speaker for each in everyone})
    own = {name: [each for each in everyone if each.speaker == name] for name in speakers}
    heard: dict[tuple[int, str, str], float] = {}  # choice, the pair's fellow that is held out, who is tested
    begun = process_time()
    for index, choice in enumerate(CHOICES):
        for one, other in combinations(speakers, 2):
            model = fitted(own[one] + own[other], choice)
            for judged, tested in ((a, b) for a in speakers for b in speakers if {a, b, one, other} == set(speakers)):
                heard[index, judged, tested] = accuracy(model, own[judged])
    print(f"\n{len(CHOICES)} choices judged in {process_time() - begun:.0f} CPU-s")
    found, default = {}, {}
    for tested in speakers:
        others = [name for name in speakers if name != tested]
        scores = [mean(heard[index, judged, tested] for judged in others) for index in range(len(CHOICES))]
        best = max(range(len(CHOICES)), key=scores.__getitem__)
        train = [each for name in others for each in own[name]]
        found[tested] = accuracy(fitted(train, CHOICES[best]), own[tested])
        default[tested] = accuracy(fitted(train, {}), own[tested])
        print(f"  {tested}: {CHOICES[best]} had {scores[best]:.3f} right on the training speakers,", end=" ")
        print(f"has {found[tested]:.3f} here; the defaults have {default[tested]:.3f}")
    print(f"  mean {mean(found.values()):.4f}; with the defaults {mean(default.values()):.4f}")
    assert mean(found.values()) >= 0.84
