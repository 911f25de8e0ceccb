"""Random numbers of one computation leave those of every other alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.model import Key
from plait.randomness import seeded, uniforms


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_inside_the_seed_counts_and_outside_nothing_has_happened() -> None:
    with seeded(5):
        drawn()
        with seeded(6):
            first = drawn()
        after = drawn()
    with seeded(5):
        drawn()
        assert drawn() == after
    with seeded(6):
        assert drawn() == first


def test_a_loader_process_of_a_cuda_training_can_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA is there, and a forked process cannot initialise it."""

    def refuse() -> list[torch.Tensor]:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", refuse)
    with seeded(5):
        assert drawn()


def reference(key: Key, j: int) -> float:
    """The same numbers in Python's own integers, which have no overflow to get wrong."""

    def mixed(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        return bits ^ (bits >> 31)

    state = 0
    for part in (key.seed, key.epoch, key.index):
        state = mixed(((state ^ part % 2**64) + 0x9E3779B97F4A7C15) % 2**64)
    return (mixed((state + (j + 1) * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53


numbers = st.integers(0, 2**63)


@given(st.lists(st.builds(Key, numbers, numbers, numbers), max_size=5), st.integers(0, 7))
def test_the_uniforms_of_a_key_are_its_own_in_any_batch_and_at_any_length(keys: list[Key], n: int) -> None:
    drawn = uniforms(keys, n)
    assert drawn.shape == (len(keys), n)
    assert drawn.tolist() == [[reference(key, j) for j in range(n)] for key in keys]


def test_the_uniforms_are_the_same_on_every_platform() -> None:
    assert uniforms([Key(0, 0, 0), Key(1, 2, 3)], 2).tolist() == [
        [0.1296456182997474, 0.049920065672091285],
        [0.07166370763826013, 0.8633317146052892],
    ]


def test_the_uniforms_are_uniform_and_neighbouring_keys_and_numbers_know_nothing_of_each_other() -> None:
    keys = [Key(seed, epoch, index) for seed in range(2) for epoch in range(4) for index in range(512)]
    drawn = uniforms(keys, 32)
    assert 0 <= drawn.min() < drawn.max() < 1
    cells = np.bincount((drawn.ravel() * 1024).astype(int), minlength=1024)
    expected = drawn.size / 1024
    # chi-squared of 1,023 degrees of freedom: its deviation is 45, and five of them are one case in a million
    assert abs(((cells - expected) ** 2 / expected).sum() - 1023) < 5 * 45.2
    grid = drawn.reshape(2, 4, 512, 32)
    for one, other in (
        (grid[0], grid[1]),
        (grid[:, :-1], grid[:, 1:]),
        (grid[:, :, :-1], grid[:, :, 1:]),
        (grid[..., :-1], grid[..., 1:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * np.sqrt(one.size) < 5
