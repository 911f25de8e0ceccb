"""How many of the names in tweets does a tagger find that is trained on 3,394 of them, from nothing, in minutes?

Measured on WNUT-17 (3,394 / 1,009 / 1,287 sentences, six types), whose test part holds names that training lacks, from
the folder `wnut17` of the one that PLAIT_BENCH_DATA names. Entity F1 as conlleval and seqeval count it.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time

import pytest

import plait

pytestmark = pytest.mark.bench(minutes=2)

NEEDED = {"nlp/majority-tag": 0.03, "nlp/bilstm-crf": 0.15}  # the second is to be clearly above the first
SECONDS = 240  # CPU, of one thread, the evaluations of each epoch included


@pytest.mark.parametrize("model", NEEDED)
def test_wnut17(model: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "wnut17")
    if not folder.is_dir():
        pytest.skip("PLAIT_BENCH_DATA names no folder with wnut17/{train,dev,test}.conll")
    before = process_time()
    run = plait.train(
        "nlp/token-classification", model, {"source": str(folder)}, out=tmp_path / "run", engine={"threads": 1}
    )
    seconds = process_time() - before
    test = run.metrics["test"]
    print(
        f"{model} on WNUT-17: F1 {test['f1']:.4f} (precision {test['precision']:.4f}, recall {test['recall']:.4f}),"
        f" {seconds:.0f} CPU-s"
    )
    assert test["f1"] >= NEEDED[model]
    assert seconds <= SECONDS
