"""Batches of like length: they pad less, visit everything once, and depend on seed and epoch only."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plait.training.batches import Order


@given(st.lists(st.integers(1, 500), min_size=1, max_size=400), st.integers(1, 32), st.integers(0, 3))
def test_an_epoch_visits_everything_once_and_is_reproducible(lengths: list[int], batch_size: int, epoch: int) -> None:
    order = Order(examples=len(lengths), epochs=4, batch_size=batch_size, seed=1, lengths=lengths)
    permutation = order.permutation(epoch)
    assert sorted(permutation.tolist()) == list(range(len(lengths)))
    np.testing.assert_array_equal(permutation, order.permutation(epoch))


def test_batches_are_of_like_length_and_differ_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, size=3_201).tolist()

    def padding(order: Order) -> float:
        """Padded places over filled ones."""
        batches = [order.permutation(0)[first : first + 32] for first in range(0, 3_200, 32)]
        sizes = [np.asarray(lengths)[batch] for batch in batches]
        return float(sum(len(each) * each.max() for each in sizes) / sum(each.sum() for each in sizes))

    plain = Order(examples=3_201, epochs=2, batch_size=32, seed=0)
    sorted_ = Order(examples=3_201, epochs=2, batch_size=32, seed=0, lengths=lengths)
    assert padding(sorted_) < 1.1 < 1.7 < padding(plain)
    assert sorted_.permutation(0).tolist() != sorted_.permutation(1).tolist()
    means = [np.asarray(lengths)[sorted_.permutation(0)[first : first + 32]].mean() for first in range(0, 3_200, 32)]
    assert np.abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5  # short and long batches come in any order
