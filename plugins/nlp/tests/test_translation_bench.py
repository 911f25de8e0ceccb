"""How well, and at what cost, are Multi30k translated and SciTLDR summarized by networks that start from nothing?

Measured on Multi30k English to German (29,000 pairs to learn, 1,014 to choose, the 1,000 of test_2016_flickr to judge)
and SciTLDR-A (abstracts of papers and one or several one-sentence summaries of each: 1,992, 619 and 618), from the
folders `multi30k` and `scitldr_a` of the one that PLAIT_BENCH_DATA names.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from plait.api import train

pytestmark = pytest.mark.bench(minutes=8)

ENGINE: dict[str, Any] = {"threads": 1, "precision": "bf16"}


def data(name: str) -> Path:
    folder = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), name)
    if not folder.is_dir():
        pytest.skip(f"PLAIT_BENCH_DATA names no folder with {name}")
    return folder


def told(run: Any, seconds: float) -> dict[str, dict[str, float]]:
    """The run's test metrics and its baselines', printed."""
    found: dict[str, dict[str, float]] = {run.model: run.metrics["test"]}
    found |= {name: each["test"] for name, each in run.info["baselines"].items()}
    for name, metrics in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
    print(f"{seconds:.0f} CPU-s, reading and judging included")
    return found


def test_multi30k_beats_copying_and_the_dictionary(tmp_path: Path) -> None:
    before = process_time()
    run = train(
        "nlp/translation", "nlp/seq2seq-gru", {"source": str(data("multi30k")), "languages": ["en", "de"]},
        trainer={"batch_size": 64, "epochs": 3, "max_steps": 1200, "evaluate_every": 600, "learning_rate": 0.003},
        engine=ENGINE, out=tmp_path / "run",
    )  # fmt: skip
    found = told(run, process_time() - before)
    best = max(found[name]["bleu"] for name in ("nlp/copy", "nlp/word-dictionary"))
    assert found["nlp/seq2seq-gru"]["bleu"] > best + 3


def test_scitldr_is_reported_as_it_is(tmp_path: Path) -> None:
    before = process_time()
    run = train(
        "nlp/summarization",
        {
            "name": "nlp/seq2seq-gru", "width": 128, "vocabulary": 3000, "max_target": 40,
            "decoding": {"beam": 1, "no_repeat": 3},
        },
        str(data("scitldr_a")),
        trainer={"batch_size": 16, "epochs": 3, "learning_rate": 0.004, "evaluate_every": 1000}, engine=ENGINE,
        out=tmp_path / "run",
    )  # fmt: skip
    found = told(run, process_time() - before)
    assert set(found) == {"nlp/seq2seq-gru", "nlp/lead-1", "nlp/lead-3"}
