"""Prints what 2,000 texts of mixed length cost: `predict`, transformers' pipeline, and a sorted loop by hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plait
from plait.libraries import transformers
from tests.benchmarks.commands import show

pytestmark = pytest.mark.bench(minutes=2)

TEXTS, ROUNDS, BATCH = 2_000, 3, 64
SIZES: dict[str, dict[str, int]] = {
    "2 layers of 128": {},
    "4 layers of 256": {"hidden": 256, "layers": 4, "heads": 4, "intermediate": 1024},
}
WORDS = (
    "the", "a", "film", "story", "actor", "plot", "is", "was", "not", "very", "good", "bad", "dull", "bright", "slow",
    "funny", "long", "short", "and", "but", "of", "in", "with",
)  # fmt: skip


def texts() -> list[str]:
    """Texts of 3 to 60 words, most of them short."""
    generator = np.random.default_rng(0)
    sizes = np.clip(generator.lognormal(2.6, 0.7, TEXTS), 3, 60).astype(int)
    return [" ".join(generator.choice(WORDS, size=size).tolist()) for size in sizes]


def by_hand(network: Any, tokenizer: Any, given: list[str]) -> list[str]:
    """What a careful user writes: sorted by length, padded batches, labels in the order given."""
    order = sorted(range(len(given)), key=lambda index: -len(given[index]))
    found = [""] * len(given)
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            inputs = tokenizer(
                [given[index] for index in part], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            for index, row in zip(part, network(**inputs).logits.softmax(1).argmax(1).tolist(), strict=True):
                found[index] = network.config.id2label[row]
    return found


@pytest.mark.parametrize("size", SIZES)
def test_many_texts_cost_little_more_than_by_hand_and_less_than_a_pipeline(size: str, tmp_path: Path) -> None:
    pytest.importorskip("plait_nlp")
    library = transformers()
    given = texts()
    rows = [(text, ("bad", "good")[index % 2]) for index, text in enumerate(given[:200])]
    model = {"name": "transformers/bert", **SIZES[size]}
    run = plait.train(
        "nlp/text-classification", model, rows, out=tmp_path / "run", trainer={"epochs": 1},
        output={"baselines": False, "report": False, "tensorboard": False},
    )  # fmt: skip
    predictor = plait.load(run.path)
    directory = str(run.path / "model")
    network = library.AutoModelForSequenceClassification.from_pretrained(directory, local_files_only=True).eval()
    tokenizer = library.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    pipeline = library.pipeline("text-classification", model=network, tokenizer=tokenizer)
    ways: dict[str, Callable[[], list[str]]] = {
        "plait": lambda: [each.prediction for each in predictor.predict(given)],
        "by hand": lambda: by_hand(network, tokenizer, given),
        "pipeline": lambda: [each["label"] for each in pipeline(given, truncation=True, max_length=128)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    for _ in range(ROUNDS):  # they take turns, so that whatever else the machine does falls on all alike
        for name, way in ways.items():
            start = time.process_time()
            answers[name] = way()
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    assert sum(one == other for one, other in zip(answers["plait"], answers["by hand"], strict=True)) >= TEXTS - 2
    rows_shown = [[name, f"{TEXTS / each:.0f}", f"{each / medians['by hand']:.2f}"] for name, each in medians.items()]
    show(
        f"{TEXTS} texts, BERT of {size}, 1 thread, median of {ROUNDS}",
        ["", "texts per CPU-s", "over by hand"],
        rows_shown,
    )
