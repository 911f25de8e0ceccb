"""Are clicks read, encoded, modelled and judged as documented?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

import plait
from plait.engine.local import LocalEngine
from plait.errors import DataError, InputError, RecipeError
from plait.options import EngineOptions
from plait_recommendation.ctr.demo_data import make_clicks
from plait_recommendation.ctr.encoding import PairEncoder
from plait_recommendation.ctr.evaluation import ClickEvaluator
from plait_recommendation.ctr.fields import FIRST, MISSING, OTHER
from plait_recommendation.ctr.networks import CrossNetwork, second_order
from plait_recommendation.ctr.ranking_quality import grouped_auc, weighted_auc
from plait_recommendation.ctr.rates import ClickRates, RateOptions
from plait_recommendation.ctr.task import ClickDataOptions, ClickPrediction
from plait_recommendation.pairs import Pair, Pairs
from plait_recommendation.sources import Source


def task(**options: Any) -> ClickPrediction:
    return ClickPrediction(options=ClickDataOptions(**options), seed=0)


def shop() -> Source:
    """Twelve impressions of three users and three items."""
    return Source(
        interactions=pa.table(
            {
                "user": ["a", "b", "c"] * 4,
                "item": [1, 1, 2, 2, 3, 3] * 2,
                "label": [0, 1] * 6,
                "device": ["phone", None, "tv"] * 4,
                "hour": [1.0, 2.0, None, 4.0] * 3,
            }
        ),
        users=pa.table({"user": ["a", "b"], "age": [30.0, 40.0]}),
        items=pa.table({"item": [1, 2, 3], "tags": pa.array([["x", "y"], ["x"], []], pa.list_(pa.string()))}),
    )


def encoder(train: Pairs, **changes: Any) -> PairEncoder:
    chosen: dict[str, Any] = {"min_count": 1, "numbers": "standard", "columns": {}, "most_values": 8}
    return PairEncoder.fit(train, **chosen | changes)


def read_all(source: Any, **options: Any) -> Pairs:
    train = task(valid_fraction=0, test_fraction=0, **options).read(source).train
    assert isinstance(train, Pairs)
    return train


# Metrics


scores = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7]), st.integers(0, 1), st.integers(0, 3)), min_size=2, max_size=40
)


@settings(deadline=None)
@given(scores)
def test_auc_equals_scikit_learns_with_ties_and_weights(rows: list[tuple[float, int, int]]) -> None:
    score, target, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    found = weighted_auc(score, target, np.stack([np.ones(len(rows)), weight]))
    for each, weights in zip(found, (np.ones(len(rows)), weight), strict=True):
        if all((weights * (target == label)).sum() > 0 for label in (0, 1)):
            assert each == pytest.approx(roc_auc_score(target, score, sample_weight=weights), abs=1e-12)
        else:
            assert np.isnan(each)


@settings(deadline=None)
@given(scores)
def test_grouped_auc_is_the_mean_over_groups_that_have_both(rows: list[tuple[float, int, int]]) -> None:
    score, target, group = (np.array(column) for column in zip(*rows, strict=True))
    parts = [group == each for each in np.unique(group) if len(set(target[group == each])) == 2]
    found = grouped_auc(score, target.astype(float), group)
    if parts:
        each = [roc_auc_score(target[part], score[part]) for part in parts]
        assert found == pytest.approx(np.average(each, weights=[part.sum() for part in parts]), abs=1e-12)
    else:
        assert np.isnan(found)


def test_the_evaluator_agrees_with_scikit_learn_and_its_parts_add_up() -> None:
    clicks = make_clicks(500)
    pairs = read_all(clicks.source)
    probabilities = np.random.default_rng(0).uniform(size=500).round(2)
    whole, parts, objects = ClickEvaluator(), ClickEvaluator(), ClickEvaluator()
    whole.update(probabilities.tolist(), pairs)
    parts.update(probabilities[:200].tolist(), pairs[:200])
    parts.update(probabilities[200:].tolist(), pairs[200:])
    objects.update(probabilities.tolist(), [pairs[index] for index in range(500)])
    metrics = whole.compute()
    assert metrics == parts.compute() == objects.compute()
    assert metrics["auc"] == pytest.approx(roc_auc_score(pairs.targets, probabilities), abs=1e-12)
    smallest = np.finfo(np.float32).eps
    clipped = np.clip(probabilities, smallest, 1 - smallest)
    assert metrics["log_loss"] == pytest.approx(log_loss(pairs.targets, clipped), abs=1e-6)
    assert whole.measure(whole.table(), np.ones((1, 500)))[0] == metrics["auc"]
    bins = np.ceil(probabilities * 15)
    gaps = [
        abs((probabilities - pairs.targets)[bins == each].sum()) for each in np.unique(np.clip(bins, 1, 15)) if each > 1
    ] + [abs((probabilities - pairs.targets)[bins <= 1].sum())]
    assert metrics["calibration_error"] == pytest.approx(sum(gaps) / 500, abs=1e-9)
    assert len(whole.sections()) == 1


def test_a_probability_that_is_nan_counts_as_wrong() -> None:
    pairs = [Pair({"user": "u"}, target, str(target)) for target in (0.0, 1.0)]
    judge = ClickEvaluator()
    judge.update([0.4, float("nan")], pairs)
    assert judge.compute()["auc"] == 0
    assert judge.details()["undecided"] == 1


# Reading


def test_features_come_from_events_users_and_items_and_the_label_from_none() -> None:
    pairs = read_all(shop())
    assert pairs[0] == Pair(
        {"user": "a", "item": 1, "age": 30.0, "tags": ["x", "y"], "device": "phone", "hour": 1.0}, 0.0, "1"
    )
    assert pairs[2].values["age"] is None
    assert pairs[2].values["hour"] is None
    assert pairs.take([3, 0])[1] == pairs[0]
    assert len(pairs[2:5]) == 3
    assert task().problem(task().read(shop()))["columns"] == {
        "user": {"age": "numeric"}, "item": {"tags": "token_seq"}, "pair": {"device": "categorical", "hour": "numeric"}
    }  # fmt: skip


def test_ratings_become_labels_by_a_threshold() -> None:
    rated = pa.table({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2], "rating": [5.0, 3.0, 4.0, 1.0]})
    assert read_all(rated, threshold=4).targets.tolist() == [1, 0, 1, 0]
    with pytest.raises(DataError, match="ratings from 1 to 5 and no labels") as caught:
        task().read(rated)
    assert "data.threshold=3" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"labell": [0, 1]}, {"label": "label"}, "no column 'label' of labels"),
        ({"note": ["x", "y"]}, {}, "no column of labels"),
        ({"label": [0.0, float("nan")]}, {}, "row 2: 'label' is nan; 1 of 2 labels are neither 0 nor 1"),
        ({"label": ["yes", "0"]}, {}, "row 1: 'label' is 'yes'"),
        ({"label": [1, 1]}, {}, "one class only: all 2 training pairs are labelled 1"),
        ({"label": [0, 1], "item2": ["a", "b"]}, {"ignore": ("item3",)}, "there is no column 'item3'"),
        ({"rating": [1.0, float("nan")]}, {"threshold": 2}, "'rating' is not a finite number"),
        ({"label": [0, 1]}, {"label": "label", "threshold": 2}, "both given"),
    ],
)
def test_bad_data_are_named(columns: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_all(pa.table({"user": [1, 2], "item": [1, 2], **columns}), **options)


def test_pairs_without_a_label_can_be_left_out_and_are_counted() -> None:
    rows = pa.table({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2], "label": [0.0, 1.0, None, 5.0]})
    splits = task(valid_fraction=0, test_fraction=0, on_error="skip").read(rows)
    assert isinstance(splits.train, Pairs)
    assert splits.train.targets.tolist() == [0, 1]
    assert "skipped 2 pairs whose 'label' is neither 0 nor 1" in splits.notes


def test_labels_are_zeros_and_ones_however_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "clicks.csv"
    file.write_text("user,item,clicked\n1,1,true\n1,2,0\n2,1,1.0\n", encoding="utf-8")
    assert read_all(file).targets.tolist() == [1, 0, 1]


@pytest.mark.parametrize("split", ["random", "global-time", "leave-last-out"])
def test_splits_divide_all_pairs_and_are_written_down(split: str) -> None:
    splits = task(split=split).read(make_clicks(600, users=20).source)
    assert splits.index is not None
    assert len(splits.index) == 600 == len(set(splits.index["id"].to_pylist()))
    parts = [splits[name] for name in ("train", "valid", "test")]
    times = [part.data.interactions.times[part.rows] for part in parts if isinstance(part, Pairs)]  # type: ignore[index]
    assert sum(map(len, times)) == 600
    if split == "global-time":
        assert times[0].max() <= times[1].min()
        assert times[1].max() <= times[2].min()
    if split == "leave-last-out":
        assert len(times[1]) == len(times[2]) == 20
    assert task(split=split).problem(splits)["protocol"]["split"] == split


# Encoding


def test_columns_become_rows_of_one_table() -> None:
    pairs = read_all(shop())
    made = encoder(pairs)
    batch = made.collate(pairs, [], training=True)
    fields = {field.name: field for field in made.fields}
    order = [each.name for source in ("user", "item", "pair") for each in made.fields if each.source == source]
    shown = [name for name in order if fields[name].kind == "categorical"]
    assert shown == ["user", "item", "device"]
    rows = batch["fields"].numpy() - np.array([fields[name].base for name in shown])
    assert rows[:3].tolist() == [[FIRST, FIRST, FIRST], [FIRST + 1, FIRST, MISSING], [FIRST + 2, FIRST + 1, FIRST + 1]]
    numbers = batch["numbers"].numpy() - np.array([fields[name].base for name in ("age", "hour")])
    assert numbers[:3].tolist() == [[FIRST, FIRST], [FIRST, FIRST], [MISSING, MISSING]]
    assert batch["weights"][2].tolist() == [1, 1]
    known = batch["weights"][:, 1][batch["numbers"][:, 1] == fields["hour"].base + FIRST]
    assert known.mean() == pytest.approx(0, abs=1e-6)
    assert known.std(correction=0) == pytest.approx(1, abs=1e-6)
    tags = fields["tags"].base
    assert batch["bags"][[0, 2, 4], 0].tolist() == [[tags + FIRST, tags + FIRST + 1], [tags + FIRST, 0], [tags, 0]]
    assert made.size == sum(field.size for field in made.fields) + 1


def test_columnar_batches_equal_those_of_single_pairs_and_survive_json() -> None:
    pairs = read_all(make_clicks(200).source)
    for numbers in ("standard", "log", "buckets"):
        made = encoder(pairs, numbers=numbers)
        copy = PairEncoder.from_json(json.loads(json.dumps(made.as_json())))
        chunk = pairs.take([5, 3, 170])
        one, other = made.collate(chunk, [], training=False), copy.collate(list(chunk), [], training=False)
        for name, tensor in one.tensors.items():
            assert torch.equal(tensor[..., : other[name].shape[-1]], other[name])


def test_seldom_and_new_values_are_other_and_ids_bring_their_features() -> None:
    pairs = read_all(shop())
    made = encoder(pairs, min_count=5)  # every user has 4 events
    user = made.fields[0]
    assert user.values == ()
    assert (made.collate(pairs, [], training=True)["fields"][:, 0] == user.base + OTHER).all()
    made = encoder(pairs)
    known, told, new = (
        Pair({"user": who, "item": "1", **more}) for who, more in (("a", {}), ("a", {"age": 40.0}), ("z", {}))
    )
    batch = made.collate([known, told, new], [], training=False)
    age = next(field for field in made.fields if field.name == "age")
    assert batch["weights"][:, 0].tolist() == pytest.approx(
        [age.scaled(np.array([30.0]))[0], age.scaled(np.array([40.0]))[0], 1]
    )
    assert batch["fields"][2, 0] == made.fields[0].base + OTHER
    assert batch["numbers"][2, 0] == age.base + MISSING
    assert "target" not in batch.tensors


def test_options_for_a_column_that_is_no_number_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"model.columns.hourr: there is no column") as caught:
        encoder(read_all(shop()), columns={"hourr": "log"})
    assert "hour" in str(caught.value.hint)


# Networks and predictions


def test_second_order_terms_equal_the_double_sum() -> None:
    vectors = torch.randn(5, 4, 3, dtype=torch.float64)
    slow = sum((vectors[:, i] * vectors[:, j]).sum(1) for i in range(4) for j in range(i + 1, 4))
    assert torch.allclose(second_order(vectors), torch.as_tensor(slow))


def test_a_cross_layer_multiplies_by_the_input() -> None:
    cross = CrossNetwork(3, layers=1, rank=None)
    start = torch.randn(2, 3)
    layer: Any = cross.layers[0]
    assert torch.allclose(cross(start), start * (start @ layer.weight.T + layer.bias) + start)


def test_the_generated_clicks_have_a_best_auc_that_the_truth_reaches() -> None:
    clicks = make_clicks(20_000)
    drawn = weighted_auc(clicks.probability, np.asarray(clicks.source.interactions["label"]), np.ones((1, 20_000)))
    assert drawn[0] == pytest.approx(clicks.bayes_auc, abs=0.01)


def test_rates_are_damped_and_of_whom_nothing_is_known_the_overall_one(tmp_path: Path) -> None:
    """Item 1 is clicked three times as often as it is not, item 2 the other way round; users click alike."""
    rows = [
        (user, item, int(turn % 4 < (3 if item == 1 else 1))) for user in "ab" for item in (1, 2) for turn in range(40)
    ]
    train = read_all(dict(zip(("user", "item", "label"), map(list, zip(*rows, strict=True)), strict=True)))
    model = ClickRates.create(options=RateOptions(name="rates", damping=10), problem={}, train=train, seed=0)
    engine = LocalEngine(EngineOptions(device="cpu"))
    state, progress = model.step(train, model.start(train, engine), engine)
    model.finish(state)
    assert progress.converged
    asked = [Pair({"user": user, "item": item}) for user, item in (("a", 1), ("a", 2), ("z", 1), ("z", 9))]
    damped = (60 + 10 * 0.5) / (80 + 10)
    assert model.predict(asked) == pytest.approx([damped, 1 - damped, damped, 0.5])
    model.save(tmp_path)
    loaded = ClickRates.load(tmp_path, options=model.options, problem={})
    assert loaded.predict(asked) == model.predict(asked)


def test_reports_print_what_rates_alone_reach(tmp_path: Path) -> None:
    run = plait.train(
        "recommendation/ctr", "recommendation/logistic-regression", make_clicks(2000).source, out=tmp_path / "run",
        trainer={"epochs": 2}, output={"tensorboard": False},
    )  # fmt: skip
    rates = run.info["baselines"]["recommendation/click-rates"]["test"]
    assert rates["mean_probability"] == pytest.approx(rates["click_rate"], abs=0.05)
    assert rates["auc"] > 0.5
    assert "recommendation/click-rates" in (run.path / "report.html").read_text()


def test_a_run_answers_rows_of_known_and_new_users(tmp_path: Path) -> None:
    run = plait.train(
        "recommendation/ctr", {"name": "recommendation/dcn-v2", "dimension": 4, "hidden": [8]},
        make_clicks(1500).source, out=tmp_path / "run", trainer={"epochs": 1},
        output={"report": False, "tensorboard": False},
    )  # fmt: skip
    predictor: Any = plait.load(run.path)
    row = {"user": 3, "item": 5, "device": "tv"}
    rows: list[Any] = [row, row | {"segment": "other"}, {"user": "somebody", "item": 5}, json.dumps(row)]
    known, told, new, text = predictor([{"row": each} for each in rows])
    assert 0 < known.prediction < 1
    assert known.outputs == {"probability": known.prediction}
    assert known.prediction == pytest.approx(text.prediction) != told.prediction != new.prediction
    wrong: list[tuple[Any, str]] = [
        ({"user": 3}, "'item' is None"),
        ({"user": 3, "item": 5, "devise": "tv"}, "no column 'devise'"),
        ({"user": 3, "item": 5, "age": "old"}, "'age' is 'old', expected a number"),
        ("{", "not JSON"),
    ]
    for given_row, words in wrong:
        with pytest.raises(InputError, match=words):
            predictor({"row": given_row})
    again = plait.evaluate(run.path, make_clicks(300, seed=1).source)
    assert again.examples == 300
    assert again.metrics["auc"] > 0
