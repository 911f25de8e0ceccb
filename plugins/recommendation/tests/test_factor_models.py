"""Negatives are what a user has not met, LightGCN spreads as the paper says, and factors find taste."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learned_examples import asks, problem_of, train_of

from plait.errors import RecipeError
from plait.model import Key
from plait_recommendation.factors.bpr import BprMf
from plait_recommendation.factors.lightgcn import LightGcn, LightGcnOptions, adjacency
from plait_recommendation.factors.network import FactorModel, FactorOptions
from plait_recommendation.factors.positives import Positives, Unseen

KINDS: list[tuple[type[FactorModel], type[FactorOptions]]] = [(BprMf, FactorOptions), (LightGcn, LightGcnOptions)]


def make(kind: type[FactorModel], kinds: type[FactorOptions], train: Any, **options: Any) -> FactorModel:
    given_options = kinds(name="recommendation/x", **{"width": 8, **options})
    return kind.create(options=given_options, problem=problem_of(train), train=train, seed=0)


def fit(model: FactorModel, train: Any, *, steps: int) -> None:
    units = model.processor.units(train)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    model.train()
    for step in range(steps):
        keys = [Key(0, step, index) for index in range(len(units))]
        loss = model(model.processor.collate(units, keys, training=True)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def tastes() -> Any:
    """Twenty users like five of items 0 to 5, twenty of items 6 to 11."""
    draw = np.random.default_rng(0)
    return train_of([(6 * (user % 2) + draw.permutation(6)[:5]).tolist() for user in range(40)], items=12)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), max_size=12), min_size=1, max_size=4))
def test_each_unseen_item_is_drawn_by_an_equal_part_of_the_unit_interval(histories: list[list[int]]) -> None:
    unseen = Unseen.of(train_of(histories, items=9).interactions)
    for user, history in enumerate(histories):
        left = sorted(set(range(9)) - set(history))
        assert unseen.left[user] == len(left)
        if left:
            middles = (np.arange(len(left)) + 0.5) / len(left)
            assert unseen.draw(np.array([user], np.int32), middles[None])[0].tolist() == left


def test_who_has_met_every_item_is_left_out_and_said() -> None:
    train = train_of([[0, 1, 2], [2, 0]], items=3)
    positives = Positives.of(train.interactions)
    assert [(each.user, each.item) for each in positives] == [(1, 2), (1, 0)]
    assert (
        "users who have met every item, so that nothing can be learned of them: up to 1"
        in make(BprMf, FactorOptions, train).notes[0]
    )


def test_a_batch_of_columns_is_a_batch_of_objects() -> None:
    train = tastes()
    model = make(BprMf, FactorOptions, train, negatives=3)
    units, keys = model.processor.units(train), [Key(0, 2, index) for index in (4, 9)]
    columns = model.processor.collate(units.take([4, 9]), keys, training=True)
    objects = model.processor.collate([units[4], units[9]], keys, training=True)
    for name, tensor in columns.tensors.items():
        assert torch.equal(tensor, objects[name])


def test_vectors_spread_over_the_normalised_graph_and_gradients_with_them() -> None:
    train = train_of([[0, 1], [1, 1, 2], []], items=4)
    graph = torch.zeros(7, 7)  # users, then items: He et al. 2020, equation 7
    for user, item in ((0, 0), (0, 1), (1, 1), (1, 2)):
        graph[user, 3 + item] = graph[3 + item, user] = 1
    degree = graph.sum(dim=1).clamp(min=1).rsqrt()
    spread = degree[:, None] * graph * degree
    model = make(LightGcn, LightGcnOptions, train, layers=2)
    start = torch.cat([model.users.weight, model.items.weight])
    expected = (start + spread @ start + spread @ spread @ start) / 3
    users, items, _ = model.vectors()
    torch.testing.assert_close(torch.cat([users, items]), expected)
    weight = torch.randn(7, 8, generator=torch.Generator().manual_seed(0))
    wanted = torch.autograd.grad((expected * weight).sum(), [model.users.weight, model.items.weight])
    found = torch.autograd.grad((torch.cat([users, items]) * weight).sum(), [model.users.weight, model.items.weight])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_the_graph_leaves_histories_in_the_order_of_time() -> None:
    train = train_of([[3, 1, 3, 0]], items=4)
    adjacency(train.histories, 4)
    assert train.histories[0].tolist() == [3, 1, 3, 0]


@pytest.mark.parametrize(("kind", "kinds"), KINDS)
@pytest.mark.parametrize("negatives", [1, 4])
def test_factors_find_taste_for_known_and_new_users(
    kind: type[FactorModel], kinds: type[FactorOptions], negatives: int
) -> None:
    train = tastes()
    model = make(kind, kinds, train, negatives=negatives)
    fit(model, train, steps=60)
    for user in (0, 1):
        missing = set(range(6 * user, 6 * user + 6)) - set(train.histories[user].tolist())
        assert {int(model.predict([asks(user)])[0].items[0])} == missing
        fold_in = model.predict([asks(history=train.histories[user])])[0]
        assert {int(fold_in.items[0])} == missing
    same = model.predict([asks(history=[], item=7)])[0].items[:5]
    assert set(same.tolist()) == {6, 8, 9, 10, 11}


def test_a_user_of_whom_training_holds_nothing_is_answered_by_what_is_popular() -> None:
    train = train_of([[0, 1], [1, 2], []], items=4)
    model = make(BprMf, FactorOptions, train)
    unknown, blank = model.predict([asks(), asks(2)])  # user 2 has a code, and no event
    assert unknown.items.tolist()[0] == blank.items.tolist()[0] == 1


@pytest.mark.parametrize(("kind", "kinds"), KINDS)
def test_what_is_saved_answers_alike_and_other_users_are_no_start(
    tmp_path: Path, kind: type[FactorModel], kinds: type[FactorOptions]
) -> None:
    model = make(kind, kinds, tastes())
    model.save(tmp_path)
    loaded = kind.load(tmp_path, options=model.options, problem=model.problem)
    one, other = (each.predict([asks(3), asks(history=[1, 2])]) for each in (model, loaded))
    for first, second in zip(one, other, strict=True):
        assert np.array_equal(first.scores, second.scores)
    with pytest.raises(RecipeError, match="knows other users"):
        model.start_from(make(kind, kinds, train_of([[0]], items=12)))
