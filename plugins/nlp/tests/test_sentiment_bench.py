"""How well, and at what cost, do the text classifiers tell good reviews of films from bad ones?

Measured on SST-2 (6,920 to learn, 872 to choose, 1,821 to judge), from the folder `sst2` of the one that
PLAIT_BENCH_DATA names: train.tsv, dev.tsv and test.tsv, a text and its label a line.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from plait.api import train

pytestmark = pytest.mark.bench(minutes=3)

NEEDED = {"nlp/linear": 0.815, "nlp/frozen-encoder": 0.80, "nlp/bag-of-embeddings": 0.5, "transformers/bert": 0.5}
SST2: dict[str, Any] = {"columns": ["text", "label"]}
SECONDS = 120  # CPU-s of one thread, for all that is not trained from nothing by gradients


@pytest.mark.parametrize("model", NEEDED)
def test_sst2(model: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "sst2")
    if not folder.is_dir():
        pytest.skip("PLAIT_BENCH_DATA names no folder with sst2/{train,dev,test}.tsv")
    before = process_time()
    run = train(
        "nlp/text-classification", model, SST2 | {"source": str(folder)}, out=tmp_path / "run", engine={"threads": 1}
    )
    seconds = process_time() - before
    test = run.metrics["test"]
    print(f"{model} on SST-2: accuracy {test['accuracy']:.4f}, {seconds:.0f} CPU-s (reading and judging included)")
    assert test["accuracy"] >= NEEDED[model]
    if model in ("nlp/linear", "nlp/frozen-encoder"):
        assert seconds <= SECONDS
