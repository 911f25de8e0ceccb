"""Texts from files of every format and encoding, and what is said of broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import DataError, InputError
from plait.task import Splits
from plait_nlp.encodings import detect_encoding
from plait_nlp.text_classification.task import (
    ClassificationOptions,
    MultiLabelClassification,
    TextClassification,
    TextRegression,
)

ROWS = [(f"text number {index} is {'good' if index % 2 else 'bad'}", ("bad", "good")[index % 2]) for index in range(20)]


def read(source: Any, task: type = TextClassification, **options: Any) -> Splits:
    """What the task makes of a source."""
    made: Splits = task(options=ClassificationOptions(**options), seed=0).read(source)
    return made


def texts(splits: Splits) -> set[str]:
    """Every text of every split."""
    return {each.text for name in splits.names() for each in splits[name] or ()}  # type: ignore[attr-defined]  # TextSplit


def write(path: Path, rows: list[tuple[str, str]] = ROWS, *, encoding: str = "utf-8") -> Path:
    """Rows in the format of the file's name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}), path)
        return path
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    if path.suffix in (".csv", ".tsv"):
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [mark.join(row) for row in [("text", "label"), *rows]]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_every_format_gives_the_same_examples(name: str, tmp_path: Path) -> None:
    splits = read(write(tmp_path / name))
    assert texts(splits) == {text for text, _ in ROWS}
    assert splits.names() == ["train", "valid", "test"]
    assert {each.label for each in splits.train or ()} == {"bad", "good"}  # type: ignore[attr-defined]  # TextSplit


def test_a_file_without_header_is_read_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("".join(f'{text} "quoted\t{label}\n' for text, label in ROWS))
    with pytest.raises(DataError, match="no column 'text'") as caught:
        read(path)
    assert "data.columns=[text,label]" in str(caught.value.hint)
    assert len(texts(read(path, columns=("text", "label")))) == len(ROWS)
    path.write_text("a good one\tgood\n\tbad\nanother\tbad\n")
    with pytest.raises(DataError, match=r"train\.tsv:2 has an empty text"):
        read(path, columns=("text", "label"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_so_are_detected(encoding: str, tmp_path: Path) -> None:
    rows = [(f"naïve 日本 😀 {text}", label) for text, label in ROWS]
    assert texts(read(write(tmp_path / "a.csv", rows, encoding=encoding))) == {text for text, _ in rows}
    assert detect_encoding(tmp_path / "a.csv").note is None


def test_latin_1_is_guessed_with_a_note_and_can_be_stated(tmp_path: Path) -> None:
    rows = [(f"café {text}", label) for text, label in ROWS]
    path = write(tmp_path / "a.jsonl", rows, encoding="latin-1")
    splits = read(path)
    assert texts(splits) == {text for text, _ in rows}
    assert any("not UTF-8 (first in line 1); it was read as latin-1" in note for note in splits.notes)
    assert not any("UTF-8" in note for note in read(path, encoding="latin-1").notes)
    with pytest.raises(DataError, match=r"a\.jsonl:1: byte .* is not UTF-8"):
        read(path, encoding="utf-8")
    with pytest.raises(ValueError, match="did you mean 'latin-1'"):
        ClassificationOptions(encoding="latin-one")


def test_broken_utf_8_is_named_by_line_and_not_taken_for_latin_1(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [(f"café {text}", label) for text, label in ROWS])
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:4], lines[4].replace("é".encode(), b"\xe9"), *lines[5:]]))
    with pytest.raises(DataError, match=r"a\.jsonl:5: .* is not UTF-8, and 19 other lines are"):
        read(path)


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_any_text_in_memory_is_kept_as_it_is(text: str) -> None:
    splits = read({"train": [(text, "one"), ("another text", "two")]}, valid_fraction=0)
    assert splits.train is not None
    assert splits.train[0].text == text


def test_wrong_columns_and_empty_texts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("txt,label\nhello,a\n")
    with pytest.raises(DataError, match="no column 'text'") as caught:
        read(path)
    assert "did you mean 'txt'" in str(caught.value.hint)
    assert len(texts(read(write(path).rename(tmp_path / "b.csv"), fields={"text": "text"}))) == len(ROWS)
    path.write_text("text,label\nhello,a\n   ,b\nworld,\nbye,b\n")
    with pytest.raises(DataError, match="2 of 4 texts cannot be used") as caught:
        read(path)
    assert "a.csv:3 has an empty text" in caught.value.message
    assert "a.csv:4 has no label" in caught.value.message
    assert "skipped 2 of 4 texts" in " ".join(read(path, on_error="skip", split="random").notes)


def test_labels_that_training_lacks_are_named_with_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'goood'") as caught:
        read({"train": ROWS, "test": [("a text", "goood")]})
    assert "did you mean 'good'" in str(caught.value.hint)


def test_folders_of_classes_and_of_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for index, (text, label) in enumerate(ROWS):
            file = tmp_path / "imdb" / split / label / f"{index}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{split} {text}")
    splits = read(tmp_path / "imdb")
    assert splits.test is not None
    assert len(splits.test) == len(ROWS)
    assert len(texts(splits)) == 2 * len(ROWS)
    (tmp_path / "parts").mkdir()
    for split in ("train", "dev", "test"):
        write(tmp_path / "parts" / f"{split}.tsv")
    splits = read(tmp_path / "parts")
    assert [len(splits[name] or ()) for name in splits.names()] == [20, 20, 20]
    assert any("also in train" in note for note in splits.notes)


def test_a_datasets_directory(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["good", "bad"])
    made = datasets.Dataset.from_dict(
        {"sentence": [text for text, _ in ROWS], "label": [("good", "bad").index(label) for _, label in ROWS]},
        features=datasets.Features({"sentence": datasets.Value("string"), "label": names}),
    )
    made.save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match="no column 'text'"):
        read(tmp_path / "set")
    task = TextClassification(options=ClassificationOptions(fields={"text": "sentence"}), seed=0)
    splits = task.read(tmp_path / "set")
    assert task.problem(splits)["labels"] == ["good", "bad"]  # as the set has them, not by name


def test_pairs_are_everywhere_or_nowhere() -> None:
    rows = [{"text": text, "pair": "another", "label": label} for text, label in ROWS]
    task = TextClassification(options=ClassificationOptions(), seed=0)
    problem = task.problem(task.read(rows))
    assert problem["pairs"] is True
    with pytest.raises(InputError, match="fitted on pairs"):
        task.parse({"text": "alone"}, problem)
    with pytest.raises(DataError, match=r"data\[3\] has an empty pair, where others have one"):
        task.read([*rows[:3], {**rows[3], "pair": ""}, *rows[4:]])


def test_several_labels_and_numbers() -> None:
    rows = [("one", "a|b"), ("two", "b"), ("three", ""), ("four", "a"), ("five", "a | b")]
    for given in (rows, [(text, [each.strip() for each in label.split("|") if each]) for text, label in rows]):
        splits = read(given, MultiLabelClassification)
        assert {each.label for name in splits.names() for each in splits[name] or ()} == {
            ("a", "b"),
            (),
            ("b",),
            ("a",),
        }  # type: ignore[attr-defined]  # TextSplit
    with pytest.raises(DataError, match=r"data\['test'\]\[0\]: the label 'c' \(test\) is not among those"):
        read({"train": rows, "test": [("six", "c")]}, MultiLabelClassification)
    with pytest.raises(DataError, match=r"has the label 'many'; expected a finite number"):
        read([("one", "1.5"), ("two", "many")], TextRegression)


@pytest.mark.parametrize("value", ["", "  \n", None, 3, b"bytes"])
def test_inputs_that_are_no_text_are_refused(value: Any) -> None:
    task = TextClassification(options=ClassificationOptions(), seed=0)
    problem = {"pairs": False, "labels": ["a", "b"]}
    with pytest.raises(InputError):
        task.parse({"text": value}, problem)
