"""Which recordings are listed, which are refused, and how they are divided."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from pydantic import ValidationError
from recordings import tone

from plait.errors import DataError
from plait.task import Splits
from plait_speech.audio import Utterance
from plait_speech.classification import ClassificationOptions
from plait_speech.word_recognition.task import WordRecognition

MakeFolder = Callable[..., Path]
PATTERN = r"(?P<speaker>[^/]+)/(?P<label>\d)_\w+_(?:(?P<test>[0-1])|\d+)\.wav"


def read(source: Any, **options: Any) -> Splits:
    return WordRecognition(options=ClassificationOptions(**options), seed=0).read(source)


def placed(splits: Splits) -> dict[str, list[str]]:
    """Ids by split."""
    assert splits.index is not None
    found: dict[str, list[str]] = {name: [] for name in splits.names()}
    for row in splits.index.to_pylist():
        found[row["split"]].append(row["id"])
    return found


def by_speaker() -> list[Utterance]:
    """Three words by each of four speakers, four times."""
    return [
        Utterance(tone(frequency=200 + 5 * number + 60 * word + take), 8_000, "abc"[word], name, f"{name}{word}{take}")
        for number, name in enumerate(("ann", "ben", "cat", "don"))
        for word in range(3)
        for take in range(4)
    ]


def test_a_folder_per_class(make_folder: MakeFolder) -> None:
    folder = make_folder(*(f"{word}/{index}.wav" for word in ("yes", "no") for index in range(10)))
    (folder / "yes" / "notes.txt").write_text("none")
    splits = read(folder)
    assert {name: len(ids) for name, ids in placed(splits).items()} == {"train": 14, "valid": 2, "test": 4}
    assert splits.notes == ("ignored 1 files that are no recordings: *.txt (1)",)
    assert WordRecognition(options=ClassificationOptions(), seed=0).problem(splits) == {
        "labels": ["no", "yes"], "rate": 8_000, "seconds": {"median": 0.2, "longest": 0.2},
    }  # fmt: skip
    assert placed(read(folder)) == placed(splits)
    assert read(folder).fingerprint == splits.fingerprint


def test_named_splits_are_kept(make_folder: MakeFolder) -> None:
    folder = make_folder(
        *(f"{part}/{word}/{i}.wav" for part in ("train", "val", "test") for word in "ab" for i in "12")
    )
    assert placed(read(folder))["valid"] == ["val/a/1.wav", "val/a/2.wav", "val/b/1.wav", "val/b/2.wav"]


def test_a_pattern_reads_label_speaker_and_split_from_the_name(make_folder: MakeFolder) -> None:
    folder = make_folder(
        *(f"{who}/{digit}_{who}_{take}.wav" for who in ("ann", "ben") for digit in "012" for take in range(6))
    )
    splits = read(folder, pattern=PATTERN)
    assert all(name[-5] in "01" for name in placed(splits)["test"])
    assert len(placed(splits)["test"]) == 12
    assert splits.train is not None
    assert {each.speaker for each in splits.train[:]} == {"ann", "ben"}  # type: ignore[index]  # it is a Sequence
    assert "2 of 2 speakers of test are also in train" in splits.notes[-1]
    with pytest.raises(DataError, match=r"1 of 37 recordings cannot be used(.|\n)*does not match data.pattern"):
        read(make_folder("ann/hello.wav"), pattern=PATTERN)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pattern": "(?P<label>"}, "not a regular expression"),
        ({"pattern": r"(?P<word>\d)"}, "unknown groups word"),
        ({"pattern": r"(?P<speaker>\d)"}, "no group"),
        ({"test_speaker": "ann", "split": "random"}, "divides by speaker"),
        ({"labels": ["a", "a"]}, "a class twice"),
        ({"min_seconds": 5.0, "max_seconds": 1.0}, "not below"),
    ],
)
def test_options_that_contradict_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClassificationOptions(**wrong)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_manifest_with_segments_of_one_long_file(tmp_path: Path, suffix: str) -> None:
    time = np.arange(8_000) / 8_000
    soundfile.write(tmp_path / "long.wav", 0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time), 8_000, subtype="FLOAT")
    rows = [
        {"audio": "long.wav", "label": "ab"[i % 2], "speaker": f"s{i % 3}", "start": i * 0.1, "end": i * 0.1 + 0.1}
        for i in range(10)
    ]
    path = tmp_path / f"manifest.{suffix}"
    if suffix == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    splits = read(path, test_speaker="s1")
    assert splits.test is not None
    assert [each.speaker for each in splits.test[:]] == ["s1"] * 3  # type: ignore[index]  # it is a Sequence
    assert {len(each.samples) for each in splits.test[:]} == {800}  # type: ignore[index]
    assert splits.notes == ()


def test_a_division_by_speaker_shares_nobody() -> None:
    data = by_speaker()
    left_out = read(data, split="speaker", test_speaker="cat")
    assert {id_[:3] for id_ in placed(left_out)["test"]} == {"cat"}
    assert {id_[:3] for id_ in placed(left_out)["valid"]} <= {"ann", "ben", "don"}
    both = placed(read(data, test_speaker=["cat", "ann"], valid_speaker="ben"))
    assert {name: {id_[:3] for id_ in ids} for name, ids in both.items()} == {
        "train": {"don"}, "valid": {"ben"}, "test": {"ann", "cat"},
    }  # fmt: skip
    drawn = placed(read(data, split="speaker", test_fraction=0.5))
    assert not {id_[:3] for id_ in drawn["train"]} & {id_[:3] for id_ in drawn["test"]}
    assert len({id_[:3] for id_ in drawn["test"]}) == 2
    with pytest.raises(DataError, match=r"nobody is called 'anne'; the speakers are ann, ben") as error:
        read(data, test_speaker="anne")
    assert "ann" in str(error.value.hint)
    with pytest.raises(DataError, match="48 of 48 recordings name no speaker"):
        read([(each.samples, 8_000, each.label) for each in data], split="speaker")
    with pytest.raises(DataError, match="none is left to train on"):
        read(data, test_speaker=["ann", "ben", "cat", "don"])


def broken(folder: Path) -> list[str]:
    """Put one of each kind of bad recording into a class folder."""
    bad = folder / "yes"
    (bad / "corrupt.wav").write_bytes(b"RIFF\x10\x00\x00\x00WAVEfmt nonsense")
    (bad / "empty.wav").write_bytes(b"")
    soundfile.write(bad / "nosamples.wav", np.zeros(0), 8_000)
    soundfile.write(bad / "onesample.wav", np.zeros(1), 8_000)
    soundfile.write(bad / "silent.wav", np.zeros(4_000), 8_000)
    nan = tone()
    nan[7] = np.nan
    soundfile.write(bad / "nan.wav", nan, 8_000, subtype="FLOAT")
    (bad / "text.flac").write_text("not audio at all")
    return ["corrupt", "empty", "nosamples", "onesample", "silent", "nan", "text"]


def test_bad_recordings_are_named_all_at_once_or_skipped_and_counted(make_folder: MakeFolder) -> None:
    folder = make_folder(*(f"{word}/{index}.wav" for word in ("yes", "no") for index in range(10)))
    names = broken(folder)
    with pytest.raises(DataError, match="7 of 27 recordings cannot be used") as error:
        read(folder)
    for name, reason in zip(
        names,
        ("is damaged", "zero bytes", "no samples", "1 sample at 8000 Hz", "is silent", "not finite", "is no audio"),
        strict=True,
    ):
        line = next(each for each in error.value.message.splitlines() if name in each)
        assert reason in line
    assert "data.on_error=skip" in str(error.value.hint)
    splits = read(folder, on_error="skip")
    assert sum(map(len, placed(splits).values())) == 20
    assert any(note.startswith("skipped 7 of 27 recordings") for note in splits.notes)


def test_long_recordings_are_refused_before_they_are_decoded() -> None:
    data = by_speaker()
    data[3] = Utterance(tone(3.0), 8_000, "a", "ann", "endless")
    with pytest.raises(DataError, match=r"data\[3\] lasts 3.0 s, and at most 2 s are read"):
        read(data, max_seconds=2.0)


def test_what_two_splits_share_is_noted() -> None:
    data = by_speaker()
    splits = read({"train": data, "test": [data[5], Utterance(np.clip(tone(level=2), -1, 1), 8_000, "a", "eve", "x")]})
    assert any("1 of 2 recordings of test are also in train" in note for note in splits.notes) or any(
        "1 of 2 recordings of test are also in valid" in note for note in splits.notes
    )
    assert "1 of 50 recordings are clipped: first x" in splits.notes


def test_labels_must_be_known_and_more_than_one() -> None:
    data = by_speaker()
    with pytest.raises(DataError, match="one class only"):
        read([each for each in data if each.label == "a"])
    with pytest.raises(DataError, match="1 labels that the training data lack: 'B'"):
        read({"train": data, "test": [Utterance(tone(), 8_000, "B")]})
    task = WordRecognition(options=ClassificationOptions(), seed=0)
    with pytest.raises(DataError, match="labels that the trained run lack"):
        task.read(data, {"labels": ["a", "b"], "rate": 8_000})
    once = [*data, Utterance(tone(frequency=999), 8_000, "once", "ann", "lonely")]
    splits = read(once)
    assert "lonely" in placed(splits)["train"]
    assert "1 classes have one recording only: once" in splits.notes


def test_limit_keeps_classes() -> None:
    splits = read(by_speaker(), limit=6)
    assert splits.train is not None
    assert sorted(each.label for each in splits.train[:]) == list("aabbcc")  # type: ignore[index]  # a Sequence


def test_samples_are_read_again_where_they_are_not_kept(make_folder: MakeFolder) -> None:
    folder = make_folder(*(f"{word}/{index}.wav" for word in ("yes", "no") for index in range(10)))
    kept, again = read(folder).train, read(folder, cache=False).train
    assert kept is not None
    assert again is not None
    assert np.array_equal(kept[0].samples, again[0].samples)
    next((folder / "no").iterdir()).parent.rename(folder / "gone")
    with pytest.raises(DataError, match="was the data set changed"):
        list(again)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (("a.wav", "b.wav"), "2 recordings, but no class folders"),
        (("yes/a.txt",), "one class|no recording"),
    ],
)
def test_folders_without_classes_say_what_to_do(tmp_path: Path, layout: tuple[str, ...], said: str) -> None:
    for name in layout:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=said):
        read(tmp_path)
