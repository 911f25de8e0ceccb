"""How well, and in how many CPU seconds, do the learned recommenders rank MovieLens-100k?

Full ranking, seen items masked, ties by id. Leave-last-out: the last event is test, the last but one valid, which
chooses the epoch and is history at test. Random: 80/20, a tenth of the 80 is valid; nothing is refitted on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import numpy as np
import pytest
import torch

from plait.api import registry, train
from plait.errors import DataError
from plait_recommendation.demo_data import movielens_100k
from plait_recommendation.ranking.cases import EMPTY, no_user
from plait_recommendation.ranking.queries import Queries
from plait_recommendation.ranking.topk import top_k
from plait_recommendation.retrieval.neighbours import InvertedLists

pytestmark = pytest.mark.bench(minutes=15)

SEEDS = (0, 1, 2)
RANDOM = {"split": "random", "test_fraction": 0.2, "valid_fraction": 0.1, "split_seed": 42}
SHORT = {"epochs": 16}


def measure(
    folder: Path, task: str, model: Mapping[str, Any], *, data: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
) -> tuple[float, float]:  # fmt: skip
    """Test NDCG@10, mean over seeds, and CPU seconds of a run: reading, training, every evaluation."""
    try:
        movielens_100k()
    except DataError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    name = str(model["name"])
    if name not in [entry.name for entry in registry().entries("model")]:
        pytest.skip("plait-recommendation is not installed")
    found, seconds = [], []
    for seed in SEEDS:
        before = process_time()
        run = train(
            f"recommendation/{task}", dict(model), {"source": "movielens-100k", **(data or {})}, seed=seed,
            trainer=dict(trainer or {}), out=folder / f"{name.replace('/', '-')}-{seed}", engine={"threads": 1},
            output={"report": False, "tensorboard": False, "baselines": False},
        )  # fmt: skip
        seconds.append(process_time() - before)
        found.append((run.metrics["valid"]["ndcg@10"], run.metrics["test"]["ndcg@10"]))
    tests = [test for _, test in found]
    listed = ", ".join(f"{valid:.4f}/{test:.4f}" for valid, test in found)
    print(f"{name} {dict(model)}: NDCG@10 {mean(tests):.4f} (valid/test of seeds {SEEDS}: {listed}), "
          f"{mean(seconds):.0f} CPU-s a run")  # fmt: skip
    return mean(tests), mean(seconds)


def test_sasrec_in_90_and_in_180_seconds(tmp_path: Path) -> None:
    name = "recommendation/sasrec"
    short, seconds = measure(tmp_path / "90", "next-item", {"name": name, "dropout": 0.3}, trainer=SHORT)
    assert seconds <= 90
    assert short >= 0.10
    longer, seconds = measure(tmp_path / "180", "next-item", {"name": name})
    assert seconds <= 180
    assert longer >= 0.105


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ({"name": "recommendation/bpr-mf"}, 0.35),
        ({"name": "recommendation/bpr-mf", "negatives": 1, "penalty": 0.01}, 0.35),  # as in the paper
        ({"name": "recommendation/lightgcn"}, 0.40),
    ],
)
def test_factor_models_on_a_random_split(tmp_path: Path, model: dict[str, Any], least: float) -> None:
    ndcg, _ = measure(tmp_path, "top-n", model, data=RANDOM)
    assert ndcg >= least


def test_the_approximate_search_of_100_000_items() -> None:
    """Clustered vectors, as towers give them: 300 centres, and more noise than distance between them."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(300, 64))
    rows = centres[draw.integers(0, 300, 100_000)] + 1.5 * draw.normal(size=(100_000, 64))
    vectors = torch.nn.functional.normalize(torch.from_numpy(rows.astype(np.float32)))
    wanted = vectors[torch.from_numpy(draw.integers(0, 100_000, 200))]
    queries = Queries.of([no_user(EMPTY)] * len(wanted))
    before = process_time()
    index = InvertedLists.of(vectors, lists=316, seed=0)
    print(f"ivf, 100,000 items of width 64: 316 lists built in {process_time() - before:.1f} CPU-s")
    for probes in (4, 8, 16, 32):
        before = process_time()
        index.search(wanted, queries, k=20, probes=probes)
        spent = (process_time() - before) / len(wanted)
        recall = index.recall(wanted, k=20, probes=probes)
        print(f"  {probes} probes: recall@20 {recall:.3f}, {spent * 1e3:.2f} CPU-ms a question")
    before = process_time()
    for each in wanted:
        top_k((each @ vectors.T)[None], 20)
    exact = (process_time() - before) / len(wanted)
    print(f"  exact: {exact * 1e3:.2f} CPU-ms a question")
    assert recall > 0.9
    assert spent < exact
