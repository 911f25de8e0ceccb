"""What becomes of each kind of bad or odd recording: named with its file and refused, noted, or simply read."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recordings import tone

from plait.errors import DataError, InputError
from plait.task import Splits
from plait_speech import audio
from plait_speech.audio import AudioError, read_audio
from plait_speech.classification import ClassificationOptions
from plait_speech.word_recognition.task import WordRecognition

MakeFolder = Callable[..., Path]
LISTENING = {"labels": ["no", "yes"]}


def task(**options: Any) -> WordRecognition:
    return WordRecognition(options=ClassificationOptions(**options), seed=0)


@pytest.fixture
def folder(make_folder: MakeFolder) -> Path:
    """Ten sound recordings of each of two words."""
    return make_folder(*(f"{word}/{index}.wav" for word in ("yes", "no") for index in range(10)))


def ids(splits: Splits) -> list[str]:
    assert splits.index is not None
    found: list[str] = splits.index.column("id").to_pylist()
    return found


def encoded(samples: Any = None, rate: int = 8_000, *, form: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.5) if samples is None else samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def cut(form: str) -> bytes:
    whole = encoded(tone(2.0), form=form)
    return whole[: len(whole) // 2]


def with_nan() -> Any:
    samples = tone()
    samples[80] = np.nan
    return samples


REFUSED = {
    "corrupt.wav": (b"RIFF\x10\x00\x00\x00WAVEfmt nonsense", "is no audio that can be read, or is damaged"),
    "text.flac": (b"not audio at all", "is no audio that can be read"),
    "empty.wav": (b"", "is empty (zero bytes)"),
    "nosamples.wav": (encoded(np.zeros(0)), "is empty: it has no samples"),
    "silent.wav": (encoded(np.zeros(4_000)), "is silent: all of its 4000 samples are 0"),
    "onesample.wav": (encoded(np.ones(1)), "is too short: 1 sample at 8000 Hz, and at least 25 ms are expected"),
    "nan.wav": (encoded(with_nan(), subtype="FLOAT"), "not finite: the first is nan at 0.010 s"),
    "truncated.wav": (cut("WAV"), "its header promises 32000 bytes, and 15978 are there (0.999 s)"),
    "truncated.rf64": (cut("RF64"), "is truncated"),
    "truncated.w64": (cut("W64"), "is truncated"),
    "truncated.aiff": (cut("AIFF"), "is truncated"),
    "truncated.au": (cut("AU"), "is truncated"),
    "truncated.caf": (cut("CAF"), "is damaged"),
    "truncated.flac": (cut("FLAC"), "is damaged"),
    "truncated.ogg": (cut("OGG"), "is damaged"),
    "truncated.mp3": (cut("MP3"), "is truncated: it says that it lasts 2.000 s"),
    "endless.wav": (encoded(tone(61.0, rate=2_000), 2_000), "lasts 61.0 s, and at most 60 s are read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_recording_is_named_skipped_and_refused_as_an_input(folder: Path, name: str) -> None:
    content, reason = REFUSED[name]
    path = folder / "yes" / name
    path.write_bytes(content)
    with pytest.raises(DataError, match="1 of 21 recordings cannot be used") as error:
        task().read(folder)
    assert f"{path} " in error.value.message
    assert reason in error.value.message
    splits = task(on_error="skip").read(folder)
    assert len(ids(splits)) == 20
    assert any("skipped 1 of 21" in note and name in note and reason in note for note in splits.notes)
    with pytest.raises(InputError) as refusal:
        task().parse({"audio": path}, LISTENING)
    assert refusal.value.message.startswith(str(path))
    assert reason in refusal.value.message


READ = {
    "stereo.wav": (encoded(np.stack([tone(), tone(frequency=450)], axis=1)), 8_000),
    "eight.wav": (encoded(subtype="PCM_U8"), 8_000),
    "twentyfour.wav": (encoded(subtype="PCM_24"), 8_000),
    "float.wav": (encoded(subtype="FLOAT"), 8_000),
    "fast.wav": (encoded(tone(0.5, rate=192_000), 192_000), 192_000),
}


@pytest.mark.parametrize("name", READ)
def test_an_odd_recording_is_read_beside_the_others(folder: Path, name: str) -> None:
    content, rate = READ[name]
    (folder / "yes" / name).write_bytes(content)
    splits = task(valid_fraction=0, test_fraction=0).read(folder)
    assert splits.train is not None
    found = next(each for each in splits.train[:] if each.id == f"yes/{name}")  # type: ignore[index]  # a Sequence
    assert found.rate == rate
    assert found.samples.ndim == 1
    assert 0.2 < np.abs(found.samples).max() <= 0.51
    assert task().problem(splits)["rate"] == 8_000  # the others'; a model resamples what it gets
    assert splits.notes == ()


def test_a_clipped_recording_is_read_and_noted(folder: Path) -> None:
    (folder / "yes" / "loud.wav").write_bytes(encoded(np.clip(tone(level=2), -1, 1)))
    splits = task().read(folder)
    assert "1 of 21 recordings are clipped: first yes/loud.wav" in splits.notes
    assert "yes/loud.wav" in ids(splits)


def test_a_header_that_cannot_know_the_length_is_believed() -> None:
    """As sox and ffmpeg write into a pipe."""
    whole = bytearray(encoded())
    for size in (0x7FFF_F000, 0xFFFF_FFFF):
        whole[4:8] = whole[40:44] = struct.pack("<I", size)
        assert len(read_audio(bytes(whole))[0]) == 4_000


def test_a_segment_before_the_cut_is_whole(folder: Path) -> None:
    (folder / "long.wav").write_bytes(cut("WAV"))
    found, _ = read_audio(folder / "long.wav", start=0.25, end=0.75)
    assert np.array_equal(found, read_audio(encoded(tone(2.0)), start=0.25, end=0.75)[0])
    with pytest.raises(AudioError, match="is truncated"):
        read_audio(folder / "long.wav", start=0.5, end=1.5)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand million samples of one byte: a file of holes, 7.5 GiB as float32."""
    size, path = 2_000_000_000, folder / "yes" / "days.wav"
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, 8_000, 8_000, 1, 8, b"data", size
    )
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    monkeypatch.setattr(audio, "_free_memory", lambda: 2**30)
    with pytest.raises(DataError, match=r"takes 7\.5 GiB of samples, and 1\.0 GiB of memory are free") as error:
        task(max_seconds=1e6).read(folder)
    assert "give start and end" in error.value.message
    table = folder / "days.csv"
    table.write_text(
        "audio,label,start,end\n"
        + "".join(f"yes/days.wav,{word},{at},{at + 1}\n" for word, at in (("a", 9), ("b", 99)))
    )
    with pytest.raises(DataError, match=r"2 of 2 recordings cannot be used(.|\n)*is silent"):  # read: a second each
        task(valid_fraction=0, test_fraction=0).read(table)


def test_memory_that_is_free_is_known_where_the_system_says() -> None:
    free = audio._free_memory()
    assert free is None or 2**20 < free < 2**50
