"""How does an answer that is a recording become a file?"""

from __future__ import annotations

import re
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plait.sealed import storage
from plait.task import Prediction

_SLUG = 32  # characters of the input that a file's name shows


def write_recordings(
    answer: Prediction, returns: Mapping[str, str], directory: Path, *, number: int, shown: Any
) -> dict[str, str]:
    """Write an answer's recordings as WAV files: "out/0001-hello-world.wav".

    Args:
        returns: the predictor's output ports and their types; those of type `audio` are written.
        directory: made where it is missing.
        number: of the input, so that no two names are equal.
        shown: the input as a person sees it.

    Returns:
        The file of each port.

    Raises:
        StorageError: the disk is full, or denies access.
    """
    ports = [port for port, kind in returns.items() if kind == "audio" and port in answer.outputs]
    words = re.sub(r"[^a-z0-9]+", "-", str(shown).lower())[:_SLUG].strip("-")
    written = {}
    for port in ports:
        name = "-".join(filter(None, [f"{number:04d}", words, port if len(ports) > 1 else ""]))
        file = directory / f"{name}.wav"
        with storage(f"{file} could not be written"):
            directory.mkdir(parents=True, exist_ok=True)
            write_wav(file, answer.outputs[port])
        written[port] = str(file)
    return written


def write_wav(file: Path, recording: Any) -> None:
    """Write a recording as 16-bit WAV; what is beyond full scale is clipped.

    Args:
        recording: (array, rate): [samples] or [samples, channels], float at full scale -1..1 or int16, and Hz.

    Raises:
        TypeError: it is no such pair.
    """
    if not isinstance(recording, Sequence) or len(recording) != 2:
        raise TypeError(f"an audio output is {type(recording).__name__}; expected a pair (samples, rate)")
    samples, rate = np.asarray(recording[0]), int(recording[1])
    if samples.ndim not in (1, 2) or (samples.dtype.kind != "f" and samples.dtype != np.int16):
        raise TypeError(f"an audio output is {samples.dtype} {list(samples.shape)}; expected float or int16 [samples]")
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(_as_int16(samples).tobytes())


def _as_int16(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Little-endian, as WAV has it."""
    if samples.dtype == np.int16:
        return samples.astype("<i2")
    whole: npt.NDArray[np.int16] = np.clip(np.rint(np.nan_to_num(samples) * 32_768), -32_768, 32_767).astype("<i2")
    return whole
