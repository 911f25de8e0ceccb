"""Small recordings made on the fly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from recordings import tone

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A function that writes WAV files, each another tone: make_folder("yes/a.wav", "no/b.wav")."""

    def make(*files: str, root: str = "set", rate: int = 8_000) -> Path:
        for position, name in enumerate(files):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(rate=rate, frequency=200 + 10 * position), rate)
        return tmp_path / root

    return make
