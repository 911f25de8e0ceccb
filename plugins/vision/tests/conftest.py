"""Small image data sets made on the fly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A function that writes folders of images: make_folder("train/cat", "train/dog", count=3)."""

    def make(*folders: str, count: int = 5, mode: str = "RGB", size: Sequence[int] = (8, 6), root: str = "set") -> Path:
        for position, folder in enumerate(folders):
            (tmp_path / root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                numbers = np.random.PCG64([position, index]).random_raw(size[0] * size[1] * 3)
                pixels = (numbers % 256).astype(np.uint8).reshape(size[1], size[0], 3)
                Image.fromarray(pixels).convert(mode).save(tmp_path / root / folder / f"{index}.png")
        return tmp_path / root

    return make
