"""How good are joined word models on strings of digits: word errors, boundaries of words, speed? CPU seconds, 1 thread.

Strings are concatenated FSDD recordings (see `word_strings`), not continuous speech: training from recordings 5 to 49,
testing on 400 strings of three to seven digits from recordings 0 to 4. Reads FSDD as test_hmm_bench.py does.
"""

from __future__ import annotations

from time import process_time

import numpy as np
import pytest
import torch
from hmm_examples import fsdd, train_hmm

from plait_speech.alignment.demo_data import with_alignments
from plait_speech.alignment.evaluation import AlignmentEvaluator
from plait_speech.audio import Utterance
from plait_speech.hmm.aligner import HmmAligner
from plait_speech.hmm.network import HmmNetwork, NetworkOptions
from plait_speech.recognition.evaluation import TranscriptEvaluator
from plait_speech.strings import word_strings

pytestmark = pytest.mark.bench(minutes=2)


def strings(words: list[Utterance], *, count: int, words_each: tuple[int, int], seed: int) -> list[Utterance]:
    return with_alignments(word_strings(words, count=count, words_each=words_each, seed=seed))


def test_strings_of_digits() -> None:
    torch.set_num_threads(1)
    digits = fsdd()
    test = strings(digits["test"], count=400, words_each=(3, 7), seed=1)
    train = strings(digits["train"], count=600, words_each=(1, 6), seed=0)
    audio, rates, off = sum(each.seconds for each in test), [], []
    for seed in range(3):
        begun = process_time()
        options = NetworkOptions(name="speech/hmm-network")
        model = train_hmm(HmmNetwork, options, train, seed=seed, problem={"rate": 8000})
        fitting, begun = process_time() - begun, process_time()
        answers = model.predict(test)
        together, begun = process_time() - begun, process_time()
        for each in test[:40]:
            model.predict([each])
        alone = (process_time() - begun) / sum(each.seconds for each in test[:40])
        judge = TranscriptEvaluator()
        judge.update(answers, test)
        found = judge.compute()
        once = np.random.default_rng(0).multinomial(400, np.full(400, 1 / 400), 2000).astype(float)
        low, high = np.percentile(judge.measure(judge.table(), once), [2.5, 97.5])
        aligner = HmmAligner(
            options=options, problem=model.problem, features=model.features, inventory=model.inventory, seed=seed
        )
        aligner.bank = model.bank
        boundaries = AlignmentEvaluator()
        boundaries.update(aligner.predict(test), test)
        times = boundaries.compute()
        print(
            f"\nseed {seed}: word errors {100 * found['wer']:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f};"
        )
        print(f"  strings with an error {100 * found['sentence_error_rate']:.1f} %; fitting {fitting:.1f} CPU-s;")
        print(f"  real-time factor {together / audio:.5f} together, {alone:.5f} one by one")
        print("  alignment:", {name: round(value, 3) for name, value in times.items()})
        rates.append(found["wer"])
        off.append(times["boundary_error"])
        assert alone <= 0.01
    print(f"  mean of three seeds: word errors {100 * np.mean(rates):.2f} %, boundaries {np.mean(off):.1f} ms off")
    assert np.mean(rates) <= 0.05
    assert np.mean(off) <= 20
