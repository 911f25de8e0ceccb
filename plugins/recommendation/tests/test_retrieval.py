"""Two towers meet, features speak for what is new, and the approximate search finds what the exact one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from learned_examples import asks, problem_of, train_of

from plait.model import Key
from plait_recommendation.ranking.queries import Queries
from plait_recommendation.ranking.topk import rank
from plait_recommendation.retrieval.features import Vocabulary
from plait_recommendation.retrieval.model import TwoTower, TwoTowerOptions
from plait_recommendation.retrieval.neighbours import InvertedLists


def genres(*, cold: bool = False) -> Any:
    """Users of even number like items of genre a (0 to 7), others b (8 to 15); item 15 is met by nobody where cold."""
    draw = np.random.default_rng(1)
    most = 7 if cold else 8
    histories = [(8 * (user % 2) + draw.permutation(most)[:5]).tolist() for user in range(60)]
    features = {
        "genre": ["a"] * 8 + ["b"] * 8, "year": pa.array([1990.0, None] * 8),
        "kinds": {"genre": "categorical", "year": "numeric"},
    }  # fmt: skip
    return train_of(histories, items=16, features=features)


def make(train: Any, *, steps: int = 0, **options: Any) -> TwoTower:
    settings = {"width": 8, "hidden": 0, "length": 4, "dropout": 0.0, **options}
    given = TwoTowerOptions(name="recommendation/two-tower", **settings)
    model = TwoTower.create(options=given, problem=problem_of(train), train=train, seed=0)
    units = model.processor.units(train)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    torch.manual_seed(0)
    for step in range(steps):
        keys = [Key(0, step, index) for index in range(len(units))]
        loss = model(model.processor.collate(units, keys, training=True)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_visit_knows_what_the_user_did_before_and_nothing_later() -> None:
    train = train_of([[5, 6, 7, 8], [9, 3]], items=10)
    model = make(train, length=2)
    units = model.processor.units(train)
    keys = [Key(0, 0, index) for index in range(len(units))]
    batch = model.processor.collate(units, keys, training=True)
    assert batch["history"].tolist() == [[-1, -1], [5, -1], [5, 6], [6, 7], [-1, -1], [9, -1]]
    assert batch["wanted"].tolist() == [5, 6, 7, 8, 9, 3]
    again = model.processor.collate([units[3]], keys[:1], training=True)
    assert again["history"].tolist() == [[6, 7]]


def test_the_loss_is_a_softmax_over_the_batch_corrected_for_popularity() -> None:
    train = train_of([[0, 1], [1, 2], [1]], items=3)
    model = make(train, temperature=0.5)
    units = model.processor.units(train)
    batch = model.processor.collate(units, [Key(0, 0, index) for index in range(5)], training=True)
    who, items = model(batch).logits, model._items(batch["wanted"])
    shares = np.log((np.array([1, 3, 1]) + 1) / 8)
    losses = []
    for row, item in enumerate(batch["wanted"].tolist()):
        logits = {
            place: float(who[row].detach() @ items[place].detach()) / 0.5 - shares[other]
            for place, other in enumerate(batch["wanted"].tolist())
            if place == row or other != item  # the same item elsewhere in the batch is no negative
        }
        losses.append(np.log(sum(np.exp(each) for each in logits.values())) - logits[row])
    assert float(model(batch).loss) == pytest.approx(np.mean(losses), abs=1e-5)


def test_new_users_are_answered_from_history_and_items_that_nobody_met_from_features() -> None:
    train = genres(cold=True)
    model = make(train, steps=120)
    answer = model.predict([asks(history=[8, 9, 10])])[0]
    assert set(answer.items[:5].tolist()) == {11, 12, 13, 14, 15}
    known = model.predict([asks(0)])[0]
    assert set(known.items[:2].tolist()) < set(range(8))
    assert set(model.predict([asks(history=[], item=2)])[0].items[:7].tolist()) == set(range(8)) - {2}
    nobody = model.predict([asks(history=[])])[0]
    assert nobody.items[0] == np.argmax(problem_of(train)["counts"])


def test_the_approximate_search_is_exact_with_every_list_and_says_its_recall_with_fewer() -> None:
    draw = np.random.default_rng(3)
    vectors = torch.nn.functional.normalize(torch.from_numpy(draw.normal(size=(2000, 8)).astype(np.float32)))
    wanted = torch.nn.functional.normalize(torch.from_numpy(draw.normal(size=(30, 8)).astype(np.float32)))
    index = InvertedLists.of(vectors, lists=40, seed=0)
    queries = Queries.of([asks(history=draw.integers(0, 2000, 400), n=7 if each else None) for each in range(30)])
    exact = rank(wanted @ vectors.T, queries, 10)
    found = index.search(wanted, queries, k=10, probes=40)
    assert np.array_equal(found.items, exact.items)
    np.testing.assert_allclose(found.scores, exact.scores, atol=1e-6)
    recalls = [index.recall(wanted, k=10, probes=probes) for probes in (1, 8, 40)]
    assert recalls[0] < 0.6 < recalls[1] < 1.0 == recalls[2]


def test_an_index_is_saved_with_its_recall_and_answers_alike(tmp_path: Path) -> None:
    train = genres()
    model = make(train, steps=20, search="ivf", lists=4, probes=2)
    before = model.predict([asks(0), asks(history=[9])])
    model.save(tmp_path)
    loaded = TwoTower.load(tmp_path, options=model.options, problem=model.problem)
    for one, other in zip(before, loaded.predict([asks(0), asks(history=[9])]), strict=True):
        assert np.array_equal(one.items, other.items)
        assert np.array_equal(one.scores, other.scores)
    quality = json.loads((tmp_path / "index.json").read_text())
    assert (quality["lists"], quality["probes"]) == (4, 2)
    assert 0.3 < quality["recall@20"] <= 1.0
    assert not list(tmp_path.glob("*.pkl"))


def test_features_are_words_and_scaled_numbers_and_unknown_ones_are_nothing() -> None:
    train = genres()
    words = Vocabulary.fit(train.item_features)
    assert words.words == ("genre=a", "genre=b")
    encoded = Vocabulary.from_json(json.loads(json.dumps(words.as_json()))).encode(train.item_features, 16)
    assert encoded.words[[0, 15]].tolist() == [[1], [2]]
    assert encoded.numbers[:2].tolist() == [[0.0], [0.0]]  # 1990 is the mean, and a missing year is the mean too
    assert Vocabulary.fit(None).encode(None, 3).words.tolist() == [[0], [0], [0]]
