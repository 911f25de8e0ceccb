"""How does a file, a segment of one, or an array become samples?"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Samples = npt.NDArray[np.float32]

AUDIO_SUFFIXES = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav")
)
"""How audio files are usually called. Files are judged by their bytes; this is for listing and messages."""

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Sampling rates that can be read, Hz; what lies outside is a broken header."""

FULL_SCALE = 0.999  # of the largest value: 16-bit files reach 32767/32768, and encoders leave a little room
_CLIPPED_RUN = 3  # samples in a row at full scale; one or two happen at the peak of a loud, sound recording

_PROMISED = re.compile(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""Of WAV, AIFF, AU, RF64 and W64: what a chunk promises, and what the file holds, in libsndfile's notes."""
_SLACK = 8  # bytes: padding that writers count or do not
_UNKNOWN_SIZE = 0x7FFF_F000  # from here on sizes mean "until the end": sox writes this one, ffmpeg 0xFFFFFFFF
_UNSURE = 0.1  # seconds; the length of an MP3 may be an estimate, off by a frame or two of 1,152 samples
_SMALL = 64 << 20  # bytes of samples that nobody's memory is asked for: 17 minutes at 16 kHz

STEP = 0.010
"""Seconds from frame to frame where nothing else says it."""

_ZEROS = 6  # zero crossings of the resampler's sinc on each side, as torchaudio has it
_ROLLOFF = 0.99  # of the Nyquist frequency, above which the resampler cuts
_LARGEST_RATIO = 1_000  # see `resample`


class AudioError(ValueError):
    """Why something is no audio that can be read. It does not know where it lay: whoever read it adds that."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Recorded speech and what is known of it. It knows no features: a model's `Features` make those, at its own rate.

    Args:
        samples: [samples], float32, mono, full scale is -1..1.
        rate: samples per second, Hz, as recorded.
        label: what is said (or who says it, or how); None where it is to be predicted.
        speaker: who speaks; "" where that is not known.
        id: where it came from, in the words of its source: "yes/0001.wav".
        text: the transcript, where one is known.
        more: further fields that its task reads, by name: reference segments, an alignment.
        frames: [frames, dims], float32, static features that were made elsewhere, where there are no samples (which are
            then empty): cepstra, which a model with as many static features a frame takes for its own.
    """

    samples: Samples
    rate: int
    label: str | None = None
    speaker: str = ""
    id: str = ""
    text: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    frames: Samples | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts; of given frames, as if they were 10 ms apart."""
        return len(self.samples) / self.rate if self.frames is None else len(self.frames) * STEP


def read_audio(
    source: Any, *, start: float | None = None, end: float | None = None, longest: float | None = None
) -> tuple[Samples, int]:
    """The samples of a recording, mono (channels are averaged), and their rate.

    Whole numbers become full scale -1..1 by their type: 8-bit, 16-bit, 24-bit and float files of one recording agree.

    Args:
        source: a path or a file's bytes (WAV, FLAC, Ogg, MP3, AIFF and what else libsndfile reads); a pair
            (array [samples] or [samples, channels], rate); {"array": ..., "sampling_rate": ...}; or an `Utterance`.
        start, end: the segment to read, seconds; None: from the beginning, to the end.
        longest: refuse more than this many seconds before they are decoded.

    Returns:
        float32 [samples], and the rate in Hz.

    Raises:
        AudioError: it is none of these, is broken or empty, has samples that are not finite, or ends before `end`.
    """
    if isinstance(source, Utterance):
        if source.frames is not None:
            raise AudioError("has features in place of samples, which cannot be used here")
        source = (source.samples, source.rate)
    if isinstance(source, Mapping):
        source = (source.get("array"), source.get("sampling_rate"))
    if isinstance(source, Sequence) and not isinstance(source, str | bytes | bytearray) and len(source) == 2:
        samples, rate = _from_array(*source)
        samples = samples[slice(*_segment(len(samples), rate, start, end, longest))]
    else:
        samples, rate = _decoded(_opened(source), start, end, longest)
    if samples.ndim == 2:
        samples = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if not len(samples):
        raise AudioError("is empty: it has no samples")
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"has samples that are not finite: the first is {samples[bad]} at {bad / rate:.3f} s")
    return np.ascontiguousarray(samples, dtype=np.float32), rate


def is_silent(samples: Samples) -> bool:
    """Whether every sample is the same: digital silence, or a line that was never plugged in."""
    return bool((samples == samples[0]).all())


def is_clipped(samples: Samples) -> bool:
    """Whether three or more samples in a row lie at full scale, on the same side."""
    for side in (samples >= FULL_SCALE, samples <= -FULL_SCALE):
        run = side.copy()
        for shift in range(1, _CLIPPED_RUN):
            run[:-shift] &= side[shift:]
            run[len(run) - shift :] = False
        if run.any():
            return True
    return False


def resample(samples: Samples, rate: int, to: int) -> Samples:
    """Samples at another rate: a sinc of six zero crossings under a Hann window (J. O. Smith, Digital Audio Resampling
    Home Page, 2002), with torchaudio's defaults and, on float32, its numbers.

    It is not torchaudio's own: torchaudio 2.11 refuses to be imported beside a torch built for another CUDA.

    Args:
        samples: [samples].
        rate, to: Hz. Where their ratio has no small terms (44101 to 8000), the nearest ratio that has is taken: the
            error is below a millionth of the pitch, and the filters stay small.

    Returns:
        [ceil(samples * to / rate)].
    """
    if rate == to or not len(samples):
        return samples
    ratio = Fraction(to, rate)
    if max(ratio.numerator, ratio.denominator) > _LARGEST_RATIO:
        scale = max(1.0, to / rate)
        ratio = Fraction(to / rate).limit_denominator(max(1, int(_LARGEST_RATIO / scale)))
    down, up = ratio.denominator, ratio.numerator
    kernel, width = _sinc_kernel(down, up)
    padded = F.pad(torch.from_numpy(samples)[None, None], (width, width + down))
    phases = F.conv1d(padded, kernel, stride=down)[0]  # [up, steps]
    length = math.ceil(len(samples) * up / down)
    result: Samples = phases.T.reshape(-1)[:length].contiguous().numpy()
    return result


@cache
def _sinc_kernel(down: int, up: int) -> tuple[Tensor, int]:
    """A filter for each output phase, [up, 1, taps], and how far it reaches to the left, samples."""
    cutoff = min(down, up) * _ROLLOFF
    width = math.ceil(_ZEROS * down / cutoff)
    taps = torch.arange(-width, width + down, dtype=torch.float64) / down
    phases = torch.arange(0, -up, -1, dtype=torch.float64) / up
    time = ((phases[:, None] + taps) * cutoff).clamp_(-_ZEROS, _ZEROS)
    window = torch.cos(time * (math.pi / _ZEROS / 2)).square()
    kernel = torch.sinc(time) * window * (cutoff / down)
    return kernel.float()[:, None], width


# Arrays


def _from_array(array: Any, rate: Any) -> tuple[npt.NDArray[Any], int]:
    """[samples] or [samples, channels] at full scale -1..1, and the rate."""
    if isinstance(array, Tensor):
        array = array.detach().cpu().numpy()
    if not isinstance(array, np.ndarray):
        array = np.asarray(array) if isinstance(array, Sequence) and not isinstance(array, str) else None
    if array is None or array.dtype.kind not in "fiu":
        raise AudioError("has no samples: expected an array of numbers [samples] or [samples, channels] and its rate")
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] > array.shape[0] > 0):
        raise AudioError(
            f"has the shape {list(array.shape)}; expected [samples] or [samples, channels]"
            + (" (transpose it)" if array.ndim == 2 else "")
        )
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(f"has the rate {rate!r}; expected whole samples per second, {LOWEST_RATE} to {HIGHEST_RATE}")
    return _scaled(array), int(rate)


def _scaled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind == "f":
        return array
    if array.dtype == np.uint8:  # 8-bit WAV is the one format that counts from 128
        return (array.astype(np.float32) - 128) / 128
    if array.dtype.kind == "u":
        raise AudioError(f"has samples of {array.dtype}; expected float, int16, int32 or uint8")
    return (array / float(2 ** (8 * array.dtype.itemsize - 1))).astype(np.float32)


# Files


def _opened(source: Any) -> Any:
    """A `soundfile.SoundFile`."""
    import soundfile

    if isinstance(source, str | Path):
        path = Path(source)
        try:
            source = path.open("rb")
            size = path.stat().st_size
        except FileNotFoundError:
            raise AudioError("no such file") from None
        except IsADirectoryError:
            raise AudioError("is a folder, not an audio file") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
            raise AudioError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    elif isinstance(source, bytes | bytearray | memoryview):
        size, source = len(source), io.BytesIO(bytes(source))
    else:
        raise AudioError(f"is {type(source).__name__}; expected a path, an audio file's bytes, or a pair (array, rate)")
    try:
        if not size:
            raise AudioError("is empty (zero bytes)")
        return soundfile.SoundFile(source)
    except soundfile.SoundFileError as error:
        source.close()
        said = str(error).split(": ", 1)[-1].strip() or type(error).__name__
        raise AudioError(f"is no audio that can be read, or is damaged: {said}") from error
    except BaseException:
        source.close()
        raise


def _decoded(
    file: Any, start: float | None, end: float | None, longest: float | None
) -> tuple[npt.NDArray[np.float32], int]:
    """[samples, channels], and the rate."""
    import soundfile

    with file:
        rate = int(file.samplerate)
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise AudioError(f"says that it has {rate} samples per second; expected {LOWEST_RATE} to {HIGHEST_RATE}")
        if end is None or round(end * rate) > file.frames:  # a segment before the cut is whole
            _check_whole(file.extra_info, file.frames / rate)
        first, last = _segment(file.frames, rate, start, end, longest)
        _check_memory((last - first) * file.channels * 4)
        try:
            if first:
                file.seek(first)
            found: npt.NDArray[np.float32] = file.read(last - first, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise AudioError(f"is damaged: {error}") from error
        except MemoryError:
            raise AudioError("does not fit into memory; read it by segments: give start and end") from None
    unsure = _UNSURE * rate if file.format in ("MP3", "OGG") else 0
    if len(found) < last - first - unsure:
        ends = (first + len(found)) / rate
        raise AudioError(f"is truncated: it says that it lasts {last / rate:.3f} s, and ends after {ends:.3f} s")
    return found, rate


def _check_whole(log: str, lasts: float) -> None:
    """Refuse a file that holds less than its header promises.

    libsndfile reads such a file up to its end without an error; only what it notes while opening it tells:
    "data : 32000 (should be 15978)".

    Args:
        log: libsndfile's notes.
        lasts: seconds that the file holds.

    Raises:
        AudioError: more than `_SLACK` bytes are missing. Sizes that mean "unknown", as a program writes into a pipe
            that cannot know them, are none.
    """
    for promised, held in _PROMISED.findall(log):
        if int(held) + _SLACK < int(promised) < _UNKNOWN_SIZE:
            raise AudioError(
                f"is truncated: its header promises {promised} bytes, and {held} are there ({lasts:.3f} s)"
            )


def _check_memory(wanted: int) -> None:
    """Refuse before decoding what this machine has no memory for.

    Raises:
        AudioError: `wanted` bytes are more than are free.
    """
    free = _free_memory() if wanted > _SMALL else None
    if free is not None and wanted > free:
        raise AudioError(
            f"takes {wanted / 2**30:.1f} GiB of samples, and {free / 2**30:.1f} GiB of memory are free; read it by"
            " segments: give start and end"
        )


def _free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say (only Linux does)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _segment(length: int, rate: int, start: float | None, end: float | None, longest: float | None) -> tuple[int, int]:
    """The first sample of a segment, and the one behind its last."""
    seconds = length / rate
    first = 0 if start is None else round(start * rate)
    last = length if end is None else round(end * rate)
    # annotations round to milliseconds, and may point a little behind the end
    if first < 0 or first >= max(last, 1) or last > length + rate // 100:
        raise AudioError(f"has no segment from {start or 0:g} to {end or seconds:g} s: it lasts {seconds:.3f} s")
    last = min(last, length)
    if longest is not None and last - first > longest * rate:
        raise AudioError(f"lasts {(last - first) / rate:.1f} s, and at most {longest:g} s are read")
    return first, last
