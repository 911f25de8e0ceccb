"""Recordings for tests."""

from __future__ import annotations

import numpy as np

from plait_speech.audio import Samples


def tone(seconds: float = 0.2, *, rate: int = 8_000, frequency: float = 300.0, level: float = 0.5) -> Samples:
    """A sine, float32 [samples]."""
    time = np.arange(round(seconds * rate)) / rate
    samples: Samples = (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)
    return samples
