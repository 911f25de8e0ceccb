"""How does a computation get its own random numbers and leave everybody else's alone?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def set_seed(seed: int, *, rank: int = 0) -> None:
    """Seed Python, NumPy and torch on every device of this process; ranks above 0 draw other numbers than rank 0 (two
    ranks with one dropout mask would learn less from each step)."""
    if rank:
        seed = int(np.random.SeedSequence((seed, rank)).generate_state(1, np.uint64)[0] >> 1)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries that plugins call use the global state
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the global generators run from `seed`; outside, they go on as if nothing had happened."""
    saved = generator_states()
    try:
        set_seed(seed)
        yield
    finally:
        restore_generators(saved)


def generator_states() -> dict[str, Any]:
    """The states of the global generators: tensors and JSON values."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(numbers, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "values": {"python": [version, gauss], "numpy": [name, position, has_gauss, cached]},
    }
    # else there is nothing to save, and a forked loader process cannot initialise it
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        states |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Put the global generators where `generator_states` found them."""
    version, gauss = states["values"]["python"]
    random.setstate((version, tuple(states["python"].tolist()), gauss))
    name, position, has_gauss, cached = states["values"]["numpy"]
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    for key, state in states.items():
        if key.startswith("cuda:") and int(key[5:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(key[5:]))
