"""How well, and how fast, does a network write down strings of real digits?

Recordings of FSDD in a row (the folder `fsdd` of the one that PLAIT_BENCH_DATA names): same speaker, gaps of 0 to 120
ms, 5 dB louder or softer. Nothing is co-articulated: this is not continuous speech, and error rates on that are higher.
Trained on takes 5 to 49, tested on 400 strings of three to seven digits from takes 0 to 4, of the same speakers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from time import process_time

import pytest

import plait
from plait.api import registry

pytestmark = pytest.mark.bench(minutes=2)

STEPS, BATCH = 700, 24


def test_ctc_on_digit_strings(tmp_path: Path) -> None:
    folder = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "fsdd")
    if not folder.is_dir():
        pytest.skip("PLAIT_BENCH_DATA names no folder with fsdd/<speaker>/<digit>_<speaker>_<take>.wav")
    if "speech/ctc" not in [entry.name for entry in registry().entries("model")]:
        pytest.skip("plait-speech is not installed")
    from plait_speech.audio import Utterance, read_audio
    from plait_speech.strings import word_strings

    words: dict[str, list[Utterance]] = {"train": [], "test": []}
    for path in sorted(folder.glob("*/*.wav")):
        found = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)
        assert found is not None, path
        digit, speaker, take = found.groups()
        samples, rate = read_audio(path)
        words["test" if int(take) < 5 else "train"].append(Utterance(samples, rate, digit, speaker, path.name))
    train = word_strings(words["train"], count=STEPS * BATCH // 3, words_each=(1, 6), seed=0)
    test = word_strings(words["test"], count=400, words_each=(3, 7), seed=1)
    source = {name: [each.utterance for each in part] for name, part in (("train", train), ("test", test))}
    before = process_time()
    run = plait.train(
        "speech/recognition", {"name": "speech/ctc", "units": "words"}, {"source": source, "split": "given"}, seed=0,
        out=tmp_path / "run",
        trainer={"epochs": 3, "batch_size": BATCH, "learning_rate": 0.004},
        engine={"threads": 1}, output={"report": False, "tensorboard": False},
    )  # fmt: skip
    seconds = process_time() - before
    predictor = plait.load(run.path)
    alone = [each.utterance for each in test[:50]]
    predictor.predict(alone[:2], batch_size=1)  # what is made once, such as filter banks
    before = process_time()
    predictor.predict(alone, batch_size=1)
    factor = (process_time() - before) / sum(each.seconds for each in alone)
    interval = run.info["intervals"]["test"]
    print(
        f"speech/ctc on digit strings (concatenations): WER {run.metrics['test']['wer']:.4f}"
        f" [{interval['low']:.4f}, {interval['high']:.4f}], sentence errors"
        f" {run.metrics['test']['sentence_error_rate']:.4f}; {seconds:.0f} CPU-s to train and test, real-time factor"
        f" {factor:.4f} one utterance at a time, reading its samples from memory"
    )
    assert run.metrics["test"]["wer"] <= 0.012
    assert seconds <= 90
    assert factor <= 0.01
