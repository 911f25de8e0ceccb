"""How does a computation get its own random numbers and leave everybody else's alone?"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from plait.model import Key

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the increment of splitmix64
_ALL = (1 << 64) - 1


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


def uniforms(keys: Sequence[Key], n: int) -> npt.NDArray[np.float64]:
    """The first `n` uniform numbers of each key, for a whole batch at once: negatives, masks, crops.

    Counter-based (Salmon et al. 2011): number j of a key is a function of (seed, epoch, index, j) and nothing else, so
    that a longer draw begins with the shorter one, in integer arithmetic that is the same on every platform. The mixer
    is splitmix64's (Steele, Lea and Flood 2014). One `key.generator()` costs 10 us before its first number; this costs
    0.5 us a key and 5 ns a number. They are other numbers than the generator's.

    Returns:
        [keys, n] in [0, 1), multiples of 2^-53.
    """
    parts = np.array([(key.seed & _ALL, key.epoch & _ALL, key.index & _ALL) for key in keys], dtype=np.uint64)
    state = np.zeros((len(keys), 1), np.uint64)
    for part in parts.reshape(-1, 3).T[:, :, None]:  # a round for each, so that (0, 1, 0) and (0, 0, 1) differ
        state = _mixed((state ^ part) + _GOLDEN)
    bits = _mixed(state + np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of the result depends on every bit given (the finalizer of splitmix64); modulo 2^64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
