"""Small hidden Markov models and utterances for the tests, and what enumeration says of them."""

from __future__ import annotations

import os
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from plait.engine.local import LocalEngine
from plait.options import EngineOptions
from plait_speech.audio import Utterance, read_audio
from plait_speech.hmm.bank import HmmBank, Topology, log_arcs_of

OFFSETS = {"left-right": (0, 1), "bakis": (0, 1, 2), "ergodic": None}


def random_bank(
    seed: int, topology: Topology = "left-right", *, models: int = 2, states: int = 3, mixtures: int = 2, dims: int = 2,
    last: bool = False,
) -> HmmBank:  # fmt: skip
    """Random parameters, float64; every start that the topology allows is possible."""
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0.1, 1.0, (models, states, states))
    offsets = OFFSETS[topology]
    if offsets is not None:
        offsets = offsets[:states]
        matrix = np.triu(matrix) - np.triu(matrix, len(offsets))
    matrix /= matrix.sum(-1, keepdims=True)
    end = torch.zeros(models, states, dtype=torch.float64)
    if last:
        end[:, :-1] = -torch.inf
    shape = (models, states, mixtures)
    return HmmBank(
        log_start=torch.from_numpy(np.log(rng.dirichlet(np.ones(states), models))),
        log_arcs=log_arcs_of(torch.from_numpy(matrix), offsets),
        log_end=end,
        log_weight=torch.from_numpy(np.log(rng.dirichlet(np.ones(mixtures), (models, states)))),
        mean=torch.from_numpy(rng.normal(size=(*shape, dims))),
        variance=torch.from_numpy(rng.uniform(0.3, 2.0, (*shape, dims))),
        offsets=offsets,
        tie=tuple(range(states)),
    )


def random_frames(seed: int, lengths: list[int], dims: int = 2) -> list[Tensor]:
    rng = np.random.default_rng(seed + 1000)
    return [torch.from_numpy(rng.normal(size=(length, dims))) for length in lengths]


def enumerate_paths(bank: HmmBank, model: int, frames: Tensor) -> dict[tuple[int, ...], float]:
    """log p(O, Q) of every state sequence Q, straight from the definitions (Rabiner 1989, eq. 13-16)."""
    transitions = bank.transitions().log()[model]
    density = torch.empty(len(frames), bank.states, dtype=torch.float64)
    for state in range(bank.states):
        emission = bank.tie[state]
        mean, variance = bank.mean[model, emission], bank.variance[model, emission]
        squares = ((frames[:, None] - mean) ** 2 / variance + torch.log(2 * torch.pi * variance)).sum(-1)
        density[:, state] = torch.logsumexp(bank.log_weight[model, emission] - squares / 2, 1)
    found = {}
    for path in product(range(bank.states), repeat=len(frames)):
        total = bank.log_start[model, path[0]] + bank.log_end[model, path[-1]]
        total = total + sum(density[step, state] for step, state in enumerate(path))
        total = total + sum(transitions[one, other] for one, other in pairwise(path))
        found[path] = float(total)
    return found


def tones(
    count: int, *, seed: int = 0, seconds: float = 0.3, words: tuple[str, ...] = ("up", "down")
) -> list[Utterance]:
    """Made-up words at 8 kHz: a tone that rises ("up"), one that falls ("down"), noise beside it; lengths differ."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        word = words[index % len(words)]
        size = int(8000 * seconds * rng.uniform(0.7, 1.3))
        pitch = np.linspace(500, 2000, size) * rng.uniform(0.9, 1.1)
        pitch = pitch if word == "up" else pitch[::-1]
        samples = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / 8000) + 0.02 * rng.normal(size=size)
        found.append(Utterance(samples.astype(np.float32), 8000, word, "nobody", f"{word}/{index}"))
    return found


def fsdd() -> dict[str, list[Utterance]]:
    """The Free Spoken Digit Dataset by its official split (index 0 to 4 is the test), from the folder `fsdd` of
    PLAIT_BENCH_DATA or that folder itself; skips the test where there are no recordings."""
    root = Path(os.environ.get("PLAIT_BENCH_DATA", ""))
    folder = root / "fsdd" if (root / "fsdd").is_dir() else root
    found: dict[str, list[Utterance]] = {"train": [], "test": []}
    for path in sorted(folder.glob("*/[0-9]_*_*.wav")) if os.environ.get("PLAIT_BENCH_DATA") else []:
        digit, speaker, index = path.stem.split("_")
        part = "test" if int(index) < 5 else "train"
        found[part].append(Utterance(*read_audio(path), label=digit, speaker=speaker, id=path.name))
    if not found["train"]:
        pytest.skip("PLAIT_BENCH_DATA names no folder with FSDD recordings")
    return found


def train_hmm(kind: Any, options: Any, train: list[Utterance], *, seed: int = 0, problem: Any = None) -> Any:
    """A model fitted on these utterances until it converges."""
    engine, problem = LocalEngine(EngineOptions(device="cpu")), problem or {"labels": list("0123456789"), "rate": 8000}
    model = kind.create(options=options, problem=problem, train=train, seed=seed)
    state = model.start(train, engine)
    for _ in range(100):
        state, progress = model.step(train, state, engine)
        if progress.converged:
            break
    model.finish(state)
    return model
