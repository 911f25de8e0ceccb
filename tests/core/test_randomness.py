"""Random numbers of one computation leave those of every other alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from plait.randomness import seeded


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
