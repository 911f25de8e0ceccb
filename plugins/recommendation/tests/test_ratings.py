"""Are ratings fitted, predicted and judged as documented?"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engine.local import LocalEngine
from plait.errors import DataError
from plait.options import EngineOptions
from plait_recommendation.pairs import Pairs
from plait_recommendation.rating.bias import Bias, BiasOptions
from plait_recommendation.rating.estimates import Estimate
from plait_recommendation.rating.evaluation import RatingEvaluator
from plait_recommendation.rating.factors import BiasedFactors, FactorOptions
from plait_recommendation.rating.least_squares import RatingLists, solve
from plait_recommendation.rating.task import RatingDataOptions, RatingPrediction

ENGINE = LocalEngine(EngineOptions(device="cpu"))


def task(**options: Any) -> RatingPrediction:
    return RatingPrediction(options=RatingDataOptions(**options), seed=0)


def ratings(users: int = 60, items: int = 40, seed: int = 0) -> pa.Table:
    """Ratings of one hidden factor and biases, with little noise; every other pair is rated."""
    draw = np.random.default_rng(seed)
    taste, kind = draw.normal(size=users), draw.normal(size=items)
    user, item = (each.ravel() for each in np.meshgrid(np.arange(users), np.arange(items), indexing="ij"))
    kept = draw.random(len(user)) < 0.5
    user, item = user[kept], item[kept]
    rating = 3 + draw.normal(0, 0.3, users)[user] + taste[user] * kind[item] + draw.normal(0, 0.1, len(user))
    return pa.table({"user": user, "item": item, "rating": rating})


def read(source: Any = None, **options: Any) -> Any:
    return task(**options).read(ratings() if source is None else source)


def fitted(kind: type[Any], options: Any, data: Pairs, *, steps: int = 30) -> tuple[Any, list[float]]:
    model = kind.create(options=options, problem={}, train=data, seed=0)
    state, logged = model.start(data, ENGINE), []
    for _ in range(steps):
        state, progress = model.step(data, state, ENGINE)
        logged.append(progress.metrics.get("loss", 0.0))
        if progress.converged:
            break
    model.finish(state)
    return model, logged


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.integers(1, 60))
def test_block_solutions_equal_each_rows_own_least_squares(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    rows, columns = draw.integers(9, size=count), draw.integers(7, size=count)
    values = torch.from_numpy(draw.normal(size=count))
    vectors, offsets = torch.from_numpy(draw.normal(size=(7, 3))), torch.from_numpy(draw.normal(size=7))
    penalty = torch.from_numpy(draw.uniform(0.1, 1, (9, 3)))
    found = solve(RatingLists(rows, columns, values, count=9, engine=ENGINE), vectors, offsets, penalty, ENGINE)
    for row in range(9):
        own = torch.from_numpy(np.flatnonzero(rows == row))
        design = vectors[columns[own.numpy()]]
        gram = design.T @ design + torch.diag(penalty[row])
        wanted = torch.linalg.solve(gram, design.T @ (values[own] - offsets[columns[own.numpy()]]))
        assert torch.allclose(found[row], wanted, atol=1e-9)


def test_factors_find_what_biases_cannot_and_never_lose_what_they_gain() -> None:
    splits = read()
    options = FactorOptions(name="recommendation/biased-mf", dimension=2, penalty=0.3, bias_penalty=0.3)
    factors, losses = fitted(BiasedFactors, options, splits.train)
    bias, _ = fitted(Bias, BiasOptions(name="recommendation/bias"), splits.train)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(losses))
    assert len(losses) > 2
    errors = []
    for model in (factors, bias):
        judge = RatingEvaluator()
        judge.update(model.predict(splits.test), splits.test)
        errors.append(judge.compute()["rmse"])
    assert errors[0] < 0.25 < 0.7 < errors[1]  # the noise is 0.1, the factor's part has deviation 1


def test_biases_are_damped_means_as_koren_has_them() -> None:
    data = read(
        pa.table({"user": [1, 1, 2], "item": [1, 2, 1], "rating": [5.0, 3.0, 4.0]}), valid_fraction=0, test_fraction=0
    )
    options = BiasOptions(name="recommendation/bias", user_damping=1, item_damping=2)
    model, _ = fitted(Bias, options, data.train, steps=1)
    item = np.array([(1 + 0) / (2 + 2), -1 / (1 + 2)])
    user = np.array([(1 - item[0] + -1 - item[1]) / 3, (0 - item[0]) / 2])
    assert model.fitted["item_bias"].numpy() == pytest.approx(item)
    assert model.fitted["user_bias"].numpy() == pytest.approx(user)
    second = model.predict(data.train)[1]
    assert second.rating == pytest.approx(4 + user[0] + item[1])


def test_unknown_ids_get_the_mean_and_the_others_bias_and_say_so(tmp_path: Path) -> None:
    run = plait.train(
        "recommendation/rating", "recommendation/biased-mf", ratings(), out=tmp_path / "run",
        output={"report": False, "tensorboard": False, "baselines": False},
    )  # fmt: skip
    predictor: Any = plait.load(run.path)
    model = predictor.artifact.model
    rows = [{"user": 3, "item": 5}, {"user": "nobody", "item": 5}, {"user": -1, "item": "nothing"}]
    known, half, none = predictor([{"row": row} for row in rows])
    assert known.scores == {"known_user": 1.0, "known_item": 1.0}
    assert known.outputs == {"rating": known.prediction}
    assert none.scores == {"known_user": 0.0, "known_item": 0.0}
    assert none.prediction == pytest.approx(float(model.fitted["mean"]))
    bias = float(model.fitted["item_bias"][model.items.code(5)])
    assert half.prediction == pytest.approx(float(model.fitted["mean"]) + bias)
    assert half.scores == {"known_user": 0.0, "known_item": 1.0}


def test_a_user_of_test_alone_is_not_known() -> None:
    rows = {"user": [1, 1, 2, 2], "item": [1, 2, 1, 2], "rating": [1.0, 5.0, 2.0, 4.0]}
    new = {"user": [3], "item": [1], "rating": [5.0]}
    splits = read({"train": pa.table(rows), "test": pa.table(new)}, valid_fraction=0)
    model, _ = fitted(Bias, BiasOptions(name="recommendation/bias"), splits.train, steps=1)
    [estimate] = model.predict(splits.test)
    assert (estimate.known_user, estimate.known_item) == (False, True)
    assert model.predict([splits.test[0]]) == [estimate]


def test_estimates_stay_in_the_range_of_training_unless_told_otherwise() -> None:
    splits = read()
    for clip in (True, False):
        model, _ = fitted(Bias, BiasOptions(name="recommendation/bias", clip=clip), splits.train)
        model.fitted["user_bias"][:] += 100
        lowest = min(each.rating for each in model.predict(splits.test))
        assert lowest == pytest.approx(splits.train.targets.max()) if clip else lowest > 90


def test_models_are_refitted_on_train_and_valid_before_test() -> None:
    splits = read()
    assert splits.refit is not None
    assert sorted(splits.refit.rows) == sorted([*splits.train.rows, *splits.valid.rows])
    assert read(refit=False).refit is None


def test_errors_are_in_the_unit_of_the_ratings() -> None:
    splits = read(valid_fraction=0)
    offsets = np.tile([1.0, -3.0], len(splits.test))[: len(splits.test)]
    judge = RatingEvaluator()
    judge.update(
        [Estimate(float(t + o), True, True) for t, o in zip(splits.test.targets, offsets, strict=True)], splits.test
    )
    metrics = judge.compute()
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(offsets**2)))
    assert metrics["mae"] == pytest.approx(np.abs(offsets).mean())
    assert metrics["known"] == 1
    weights = np.stack([np.ones(len(offsets)), offsets > 0]).astype(float)
    assert judge.measure(judge.table(), weights) == pytest.approx([metrics["rmse"], 1.0])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user": [1, 2], "item": [1, 2]}, "no column of ratings"),
        ({"user": [1, 2], "item": [1, 2], "rating": [1.0, float("nan")]}, "not a finite number"),
        ({"user": [1, 2], "item": [1, 2], "rating": [3.0, 3.0]}, "all 2 training ratings are 3"),
        ({"userr": [1, 2], "item": [1, 2], "rating": [3.0, 4.0]}, "no column 'user'"),
    ],
)
def test_bad_data_are_named(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(pa.table(columns), valid_fraction=0, test_fraction=0)
