"""How well does a small GPT predict Shakespeare after a few minutes, and how much memory does a long text take?

Measured on tinyshakespeare (1,115,394 characters: the first 90 % to learn, the last 10 % to judge), from
`tinyshakespeare/input.txt` in the folder that PLAIT_BENCH_DATA names, and on a generated text of 200 MB.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from plait.api import evaluate, train
from plait.model import Key
from plait_nlp.language_modelling.model import GptModel, GptOptions
from plait_nlp.language_modelling.task import CausalLanguageModelling

pytestmark = pytest.mark.bench(minutes=7)

NEEDED = 2.6  # bits per character
SECONDS = 480  # CPU-s of one thread, training alone


def test_shakespeare(tmp_path: Path) -> None:
    source = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "tinyshakespeare", "input.txt")
    if not source.is_file():
        pytest.skip("PLAIT_BENCH_DATA names no folder with tinyshakespeare/input.txt")
    before = process_time()
    run = train(
        "nlp/causal-language-modelling", "nlp/gpt", {"source": str(source), "valid_fraction": 0, "test_fraction": 0.1},
        out=tmp_path / "run", engine={"threads": 1, "precision": "bf16"},
        trainer={"epochs": 6, "max_steps": 2500, "batch_size": 16, "learning_rate": 0.002, "log_every": 100},
    )  # fmt: skip
    whole = process_time() - before
    evaluate(run.path)
    seconds = 2 * whole - (process_time() - before)  # the run has judged once, as `evaluate` does
    test, other = run.metrics["test"], run.info["baselines"]["nlp/ngram"]["test"]
    print(
        f"tinyshakespeare, last 10 %: nlp/gpt {test['bits_per_character']:.3f} bits per character after {seconds:.0f}"
        f" CPU-s, nlp/ngram (5) {other['bits_per_character']:.3f}"
    )
    assert test["bits_per_character"] <= NEEDED
    assert seconds <= SECONDS


def test_a_text_of_200_megabytes(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    words = np.array(["the", "of", "and", "to", "in", "a", "is", "that", "was", "on", "with", "from", "his", "they"])
    with (tmp_path / "long.txt").open("w") as file:
        for seed in range(40):
            generator = np.random.default_rng(seed)
            file.write(" ".join(words[generator.integers(0, len(words), 1_150_000)].tolist()) + "\n")
    before, started = anonymous(), process_time()
    task = CausalLanguageModelling(options=CausalLanguageModelling.Options(), seed=0)
    splits = task.read(tmp_path / "long.txt")
    read = process_time()
    options = GptOptions(name="nlp/gpt", tokenizer="byte", width=32, layers=1, heads=2)
    model = GptModel.create(options=options, problem=task.problem(splits), train=splits.train, seed=0)
    assert splits.train is not None
    units = model.processor.units(splits.train)
    counted = process_time()
    for step in range(50):
        keys = [Key(0, 0, int(each)) for each in np.random.default_rng(step).integers(0, len(units), 32)]
        model.processor.collate([units[key.index] for key in keys], keys, training=True)
    size = (tmp_path / "long.txt").stat().st_size
    more = anonymous() - before
    print(
        f"{size / 1e6:.0f} MB, {len(units.tokens) / 1e6:.0f} M tokens: read in {read - started:.1f} CPU-s, tokens in"
        f" {counted - read:.1f} CPU-s, 50 batches in {process_time() - counted:.3f}; {more / 1e6:.0f} MB of memory"
    )
    assert more < 100e6  # less than half of the text


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
