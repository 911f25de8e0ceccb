"""How well do a list of rules and a small network, trained from nothing, answer questions about articles?

Measured on the English part of XQuAD (1,190 questions on 48 articles; no article is in two splits), from the folder
`xquad` of the one that PLAIT_BENCH_DATA names. Scores as SQuAD's official script has them. A thousand questions teach a
network that has read nothing else little: what is measured is by how much the rules win.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time
from typing import Any

import pytest

import plait

pytestmark = pytest.mark.bench(minutes=2)

SMALL: dict[str, Any] = {"name": "transformers/bert", "max_length": 256, "lowercase": True}
MODELS: dict[str, tuple[Any, dict[str, Any], float]] = {
    "first sentence": ("nlp/first-sentence", {}, 0.03),
    "best sentence": ({"name": "nlp/sentence-overlap", "answer": "sentence"}, {}, 0.12),
    "words of the best sentence": ("nlp/sentence-overlap", {}, 0.15),
    "bert from nothing": (SMALL, {"epochs": 8, "batch_size": 32, "learning_rate": 1e-3}, 0.03),
}


@pytest.mark.parametrize("name", MODELS)
def test_xquad(name: str, tmp_path: Path) -> None:
    file = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "xquad", "xquad.en.json")
    if not file.is_file():
        pytest.skip("PLAIT_BENCH_DATA names no folder with xquad/xquad.en.json")
    model, trainer, needed = MODELS[name]
    before = process_time()
    run = plait.train(
        "nlp/question-answering", model, {"source": str(file)}, out=tmp_path / "run", trainer=trainer,
        engine={"threads": 1}, output={"baselines": False},
    )  # fmt: skip
    test = run.metrics["test"]
    print(
        f"{name} on XQuAD (en): F1 {test['f1']:.4f}, exact match {test['exact_match']:.4f},"
        f" {process_time() - before:.0f} CPU-s"
    )
    assert test["f1"] >= needed
