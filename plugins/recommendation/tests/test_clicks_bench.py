"""How well do the click and rating models do on generated clicks and on MovieLens-100k, and how fast do they train?

MovieLens-100k is read from the folder `ml-100k` (RecBole's .inter, .item and .user) of the one that PLAIT_BENCH_DATA
names, or is the data set `movielens-100k` (PLAIT_MOVIELENS_100K names a copy with these three). Settings are the
defaults, but for deep models on MovieLens: of three to seven settings of each model (vectors of 8, 16, 32; dropout of 0
to 0.5; weight decay; hidden layers) these were the best on `valid` of seed 0, as the defaults were of the factorization
machine's.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import t as student

import plait
from plait.errors import DataError
from plait.evaluation import compare
from plait_recommendation.ctr.demo_data import IMPRESSIONS, make_clicks
from plait_recommendation.ctr.evaluation import ClickEvaluator
from plait_recommendation.demo_data import movielens_100k
from plait_recommendation.sources import Source, open_source

pytestmark = pytest.mark.bench

SEEDS = (0, 1, 2, 3, 4)
TEST_TO_TRAIN = 0.2 / 0.72
WIDE: dict[str, Any] = {"dimension": 32, "dropout": 0.5, "hidden": [128]}
MODELS = ("logistic-regression", "factorization-machine", "deepfm", "dcn-v2", "dlrm")


def movielens() -> Source:
    folder = Path(os.environ.get("PLAIT_BENCH_DATA", "nowhere"), "ml-100k")
    try:
        found = open_source(folder, fields={}, columns=None)[""] if folder.is_dir() else movielens_100k()
    except DataError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    if found.users is None or found.items is None:
        pytest.skip("this copy of MovieLens-100k is without ml-100k.item or ml-100k.user")
    return found


def with_side_features(found: Source) -> Source:
    """Users with age, gender, occupation and the first two digits of their zip code; items with genres and year."""
    assert found.users is not None
    assert found.items is not None
    region = pc.utf8_slice_codeunits(found.users.column("zip_code"), 0, 2)
    year = found.items.column("release_year")
    year = pc.if_else(pc.ascii_is_decimal(year), year, "")  # two cells are no years
    return replace(
        found,
        users=found.users.drop_columns(["zip_code"]).append_column("region", region),
        items=found.items.drop_columns(["release_year", "movie_title"]).append_column("year", year),
    )


def click_runs(data: Any, out: Path, settings: dict[str, dict[str, Any]] | None = None) -> dict[str, list[plait.Run]]:
    """A run of each model on each seed's split, with `settings` of its own; prints the means, and the paired
    differences from the two that must be beaten: of each seed with its bootstrap, and of all."""
    runs: dict[str, list[plait.Run]] = {}
    for name in MODELS:
        started, model = process_time(), {"name": f"recommendation/{name}", **(settings or {}).get(name, {})}
        runs[name] = [
            plait.train(
                "recommendation/ctr", model, data, seed=seed, out=out / f"{name}-{seed}",
                engine={"threads": 1, "device": "cpu"}, output={"report": False, "tensorboard": False},
            )
            for seed in SEEDS
        ]  # fmt: skip
        seconds = (process_time() - started) / len(SEEDS)
        numbers = {key: mean(run.metrics["test"][key] for run in runs[name])
                   for key in ("auc", "log_loss", "calibration_error", "gauc")}  # fmt: skip
        print(
            f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in numbers.items()) + f", {seconds:.0f} CPU-s"
        )
    for deep in ("deepfm", "dcn-v2"):
        for shallow in ("logistic-regression", "factorization-machine"):
            pairs = list(zip(runs[deep], runs[shallow], strict=True))
            for seed, (one, other) in zip(SEEDS, pairs, strict=True):
                found = compare(ClickEvaluator().measure, judged(one), judged(other))
                print(f"{deep} - {shallow}, seed {seed}: {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
            low, high = interval([auc([one]) - auc([other]) for one, other in pairs])
            print(f"{deep} - {shallow}, all seeds: {(low + high) / 2:+.4f} [{low:+.4f}, {high:+.4f}]")
    return runs


def interval(differences: list[float]) -> tuple[float, float]:
    """95 % of the mean difference over splits that overlap: Student's t with the variance of Nadeau and Bengio (2003,
    equation 9), who add the ratio of test to training examples to 1/n."""
    n = len(differences)
    error = stdev(differences) * (1 / n + TEST_TO_TRAIN) ** 0.5
    reach = float(student.ppf(0.975, n - 1)) * error
    return mean(differences) - reach, mean(differences) + reach


def judged(run: plait.Run) -> pa.Table:
    """The judged test pairs of a run."""
    [file] = (run.path / "predictions").glob("test*.parquet")
    return pq.read_table(file)


def auc(runs: list[plait.Run]) -> float:
    return mean(run.metrics["test"]["auc"] for run in runs)


def test_interactions_of_order_three_are_found_by_deep_models_alone(tmp_path: Path) -> None:
    clicks = make_clicks(IMPRESSIONS)  # the registered synthetic-clicks
    print(f"\nsynthetic clicks, {IMPRESSIONS:,}: the best AUC that is possible is {clicks.bayes_auc:.4f}")
    runs = click_runs(clicks.source, tmp_path)
    for deep in ("deepfm", "dcn-v2"):
        assert auc(runs[deep]) > auc(runs["factorization-machine"]) + 0.05 > auc(runs["logistic-regression"])


def test_likes_on_movielens(tmp_path: Path) -> None:
    source = with_side_features(movielens())
    print("\nMovieLens-100k, rating >= 4, random 72/8/20")
    kinds = {"age": "numeric", "year": "numeric"}
    runs = click_runs({"source": source, "threshold": 4, "kinds": kinds}, tmp_path, {"deepfm": WIDE, "dcn-v2": WIDE})
    shallow = "factorization-machine"
    for deep in ("deepfm", "dcn-v2"):
        assert auc(runs[deep]) > auc(runs["logistic-regression"]) + 0.01
        differences = [auc([one]) - auc([other]) for one, other in zip(runs[deep], runs[shallow], strict=True)]
        assert interval(differences)[0] > 0


def test_ratings_on_movielens(tmp_path: Path) -> None:
    source, found = movielens(), {}
    for name in ("bias", "biased-mf"):
        started = process_time()
        found[name] = [
            plait.train(
                "recommendation/rating", f"recommendation/{name}", {"source": source}, seed=seed,
                out=tmp_path / f"{name}{seed}", engine={"threads": 1, "device": "cpu"},
                output={"report": False, "tensorboard": False, "baselines": False},
            ).metrics["test"]["rmse"]
            for seed in SEEDS
        ]  # fmt: skip
        print(f"{name}: RMSE {mean(found[name]):.4f} of {np.round(found[name], 4)}, "
              f"{(process_time() - started) / len(SEEDS):.1f} CPU-s")  # fmt: skip
    assert mean(found["biased-mf"]) < 0.925
    assert mean(found["bias"]) < 0.955


def test_rows_a_second_of_logistic_regression(tmp_path: Path) -> None:
    source, seconds = make_clicks(200_000, users=5_000, items=2_000).source, []
    for turn, epochs in enumerate((1, 1, 11)):  # the first imports; the others' difference is ten epochs
        started = process_time()
        plait.train(
            "recommendation/ctr", "recommendation/logistic-regression", {"source": source, "valid_fraction": 0},
            out=tmp_path / str(turn), trainer={"epochs": epochs, "batch_size": 4096},
            engine={"threads": 1, "device": "cpu"}, output={"report": False, "tensorboard": False},
        )  # fmt: skip
        seconds.append(process_time() - started)
    rate = 10 * 160_000 / (seconds[2] - seconds[1])
    print(f"\nlogistic regression: {rate:,.0f} training rows a CPU-second")
    assert rate > 100_000
