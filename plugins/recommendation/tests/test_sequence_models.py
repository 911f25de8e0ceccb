"""Windows hold each step once, losses are what they say, and networks learn what comes next."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learned_examples import asks, cycles, problem_of, train_of

from plait.errors import RecipeError
from plait.model import Key, NeuralModel
from plait_recommendation.sequence.bert4rec import Bert4rec, MaskedOptions
from plait_recommendation.sequence.gru4rec import Gru4rec, RecurrentOptions
from plait_recommendation.sequence.losses import (
    cross_entropy,
    generalised_binary_cross_entropy,
    sampled_cross_entropy,
)
from plait_recommendation.sequence.network import SequenceModel
from plait_recommendation.sequence.processor import NO_TARGET, SequenceProcessor
from plait_recommendation.sequence.sasrec import CausalOptions, Sasrec
from plait_recommendation.sequence.windows import Windows, cuts, shifts

MODELS = {
    "sasrec": (Sasrec, CausalOptions), "gru4rec": (Gru4rec, RecurrentOptions), "bert4rec": (Bert4rec, MaskedOptions),
}  # fmt: skip


def make(name: str, train: Any, **options: Any) -> NeuralModel:
    kind, kinds = MODELS[name]
    settings = kinds(name=f"recommendation/{name}", **{"width": 16, "length": 8, "dropout": 0.0, **options})
    made: NeuralModel = kind.create(options=settings, problem=problem_of(train), train=train, seed=0)
    return made


def fit(model: NeuralModel, train: Any, *, steps: int) -> float:
    """The last loss of a few plain steps on everything."""
    units = model.processor.units(train)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(steps):
        keys = [Key(0, step, index) for index in range(len(units))]
        loss = model(model.processor.collate(list(units), keys, training=True)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 23), min_size=1, max_size=5), length=st.integers(1, 7), epoch=st.integers(0, 99))
def test_windows_hold_every_step_once_in_any_epoch(sizes: list[int], length: int, epoch: int) -> None:
    histories = [[100 * user + event for event in range(size)] for user, size in enumerate(sizes)]
    windows = Windows(train_of(histories, items=600), length=length)
    drawn = shifts(windows, [Key(1, epoch, index) for index in range(len(windows))])
    parts = cuts(windows, length=length, shifts=drawn)
    assert all(2 <= len(part) <= length + 1 for part in parts)
    steps = sorted((int(one), int(other)) for part in parts for one, other in pairwise(part))
    assert steps == sorted((one, one + 1) for each in histories for one in each[:-1])


def test_windows_are_cut_elsewhere_in_another_epoch_and_the_same_in_the_same() -> None:
    windows = Windows(train_of([list(range(43))], items=43), length=10)

    def first(epoch: int) -> int:
        drawn = shifts(windows, [Key(0, epoch, index) for index in range(len(windows))])
        return len(cuts(windows, length=10, shifts=drawn)[0])

    assert len({first(epoch) for epoch in range(12)}) > 3
    assert first(5) == first(5)


def test_a_history_longer_than_the_window_is_its_last_items_and_targets_follow_items() -> None:
    processor = SequenceProcessor(items=30, length=4)
    batch = processor.collate([asks(history=range(9)), asks(history=[3])], [], training=False)
    assert batch["items"].tolist() == [[5, 6, 7, 8], [3, 30, 30, 30]]
    assert batch["lengths"].tolist() == [4, 1]
    window = Windows(train_of([[7, 8, 9]], items=30), length=4)
    batch = processor.collate(list(window), [Key(0, 0, 0)], training=True)
    assert (batch["items"].tolist(), batch["targets"].tolist(), batch.count) == ([[7, 8]], [[8, 9]], 2)


def test_masking_hides_a_target_and_nothing_else_and_never_nothing() -> None:
    processor = SequenceProcessor(items=50, length=12, objective="masked", masked=0.3)
    units = processor.units(train_of([list(range(40)), [1, 2]], items=50))
    shown = hidden = 0
    for epoch in range(50):
        batch = processor.collate(list(units), [Key(0, epoch, i) for i in range(len(units))], training=True)
        there, items, targets = batch["items"] != 50, batch["items"], batch["targets"]
        masked = targets != NO_TARGET
        assert bool(masked.any(dim=1).all())
        assert bool((items[masked] == 51).all())
        assert bool((items[there & ~masked] < 50).all())
        shown, hidden = shown + int(there.sum()), hidden + int(masked.sum())
    assert hidden / shown == pytest.approx(0.3, abs=0.05)  # a row without any masks its last


def test_a_sample_of_all_other_items_gives_the_full_cross_entropy_and_a_part_estimates_it() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, target = torch.randn(5, 40, generator=generator), torch.tensor([0, 3, 9, 39, 20])
    others = torch.tensor([[item for item in range(40) if item != each] for each in target.tolist()])
    positive, negative = scores.gather(1, target[:, None])[:, 0], scores.gather(1, others)
    nothing = torch.zeros_like(negative, dtype=torch.bool)
    full = float(cross_entropy(scores, target))
    assert float(sampled_cross_entropy(positive, negative, nothing, items=40)) == pytest.approx(full, abs=1e-5)
    drawn = torch.randint(40, (5, 4000), generator=generator)
    hits = drawn == target[:, None]
    estimate = float(sampled_cross_entropy(positive, scores.gather(1, drawn), hits, items=40))
    assert estimate == pytest.approx(full, abs=0.02)


def test_gbce_is_binary_cross_entropy_at_0_and_weakens_the_positive_at_1() -> None:
    positive, negative = torch.tensor([1.5]), torch.tensor([[0.3, -0.7]])
    nothing = torch.zeros_like(negative, dtype=torch.bool)
    plain = -(torch.log(torch.sigmoid(positive)) + torch.log(1 - torch.sigmoid(negative)).sum()) / 3
    given = [
        float(generalised_binary_cross_entropy(positive, negative, nothing, items=101, calibration=t)) for t in (0, 1)
    ]
    assert given[0] == pytest.approx(float(plain), abs=1e-6)
    rate = 2 / 100  # at t = 1 beta is the sampling rate
    expected = -(rate * torch.log(torch.sigmoid(positive)) + torch.log(1 - torch.sigmoid(negative)).sum()) / 3
    assert given[1] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [("sasrec", {}, 60), ("sasrec", {"loss": "sampled", "negatives": 6}, 60),
     ("sasrec", {"loss": "gbce", "negatives": 6}, 60), ("gru4rec", {}, 60), ("bert4rec", {"masked": 0.4}, 120)],
)  # fmt: skip
def test_networks_learn_the_order(name: str, options: dict[str, Any], steps: int) -> None:
    train = cycles()
    model = make(name, train, **options)
    fit(model, train, steps=steps)
    histories = [[4, 5, 6, 7], [6, 7, 8, 9, 10, 11, 0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    answers = model.predict([asks(history=each, mask_seen=False) for each in histories])
    assert [int(each.items[0]) for each in answers] == [8, 1, 11]


@pytest.mark.parametrize("name", MODELS)
def test_the_reason_for_an_item_is_what_its_probability_would_miss(name: str) -> None:
    train = cycles()
    model = make(name, train)
    fit(model, train, steps=120)
    plain, told = model.predict([asks(history=[4, 5, 6, 7], n=2), asks(history=[2, 4, 5, 6, 7], n=2, explain=3)])
    assert plain.reasons is None
    assert (int(told.items[0]), told.notes) == (8, ())
    item, weight = told.reasons[0][0]
    assert item == 7  # after 7 comes 8
    assert len(told.reasons[0]) <= 3
    assert isinstance(model, SequenceModel)

    def log_probability(history: list[int]) -> float:
        batch = model.processor.collate([asks(history=history)], [], training=False)
        return float(model.eval()(batch).logits.detach().log_softmax(dim=1)[0, 8])

    assert weight == pytest.approx(log_probability([2, 4, 5, 6, 7]) - log_probability([2, 4, 5, 6]), abs=1e-4)
    events, _ = model.weigh(np.arange(12, dtype=np.int32), np.array([3], np.int32))
    assert len(events) == model.processor.seen  # of a longer history the last items
    alone = model.predict([asks(history=[7], n=1, explain=1)])[0]
    assert alone.reasons[0][0][0] == 7  # beside no history at all


@pytest.mark.parametrize("name", MODELS)
def test_a_position_knows_nothing_of_padding_and_causal_networks_nothing_of_the_future(name: str) -> None:
    train = cycles()
    model = make(name, train).eval()
    alone = model.predict([asks(history=[3, 4])])[0]
    padded = model.predict([asks(history=[3, 4]), asks(history=range(8))])[0]
    assert np.array_equal(alone.items, padded.items)
    np.testing.assert_allclose(alone.scores, padded.scores, atol=1e-5)
    if name != "bert4rec":
        assert isinstance(model, Sasrec | Gru4rec)
        one, other = (model.encode(torch.tensor([[1, 2, last]])) for last in (3, 9))
        assert torch.equal(one[:, :2], other[:, :2])


def test_who_asks_what(tmp_path: Path) -> None:
    train = train_of([[0, 1, 2], [1, 2], [1, 5]], items=8)
    model = make("sasrec", train)
    questions = [asks(0), asks(history=[0, 1, 2]), asks(history=[]), asks(history=[], item=3)]
    remembered, given, nobody, like = model.predict(questions)
    assert np.array_equal(remembered.items, given.items)
    assert np.array_equal(remembered.scores, given.scores)
    assert not {0, 1, 2} & set(given.items.tolist())
    assert nobody.items.tolist()[:2] == [1, 2]  # the most popular items
    assert len(like.items) == 7
    assert 3 not in like.items
    assert like.scores[0] <= 1
    model.save(tmp_path)
    loaded = type(model).load(tmp_path, options=model.options, problem=model.problem)
    assert np.array_equal(loaded.predict(questions)[0].scores, remembered.scores)


def test_a_run_of_other_items_is_no_start() -> None:
    model = make("sasrec", train_of([[0, 1]], items=2))
    with pytest.raises(RecipeError, match="knows other items"):
        model.start_from(make("sasrec", train_of([[0, 1]], items=3)))


def test_users_with_one_event_give_no_window_and_a_width_that_heads_do_not_share_is_refused() -> None:
    train = train_of([[4], [1, 2]], items=6)
    model = make("sasrec", train)
    assert [unit.user for unit in model.processor.units(train)] == [1]
    with pytest.raises(ValueError, match="width=10 is no multiple of heads=3"):
        CausalOptions(name="recommendation/sasrec", width=10, heads=3)
