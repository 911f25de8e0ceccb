"""Which rows does the task read, which does it refuse, and what do the adapters make of them?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import plait
from plait.errors import DataError, InputError
from plait_tabular.adapters import label_to_row, row_to_text
from plait_tabular.task import TabularClassification, TabularOptions

CSV = "plot,zip,size,colour,kind\n" + "".join(
    f"{n},{'0123' if n % 3 else '0456'},{n / 2},{'red' if n % 2 else 'green'},{'apple' if n % 2 else 'pear'}\n"
    for n in range(40)
)


def task(**options: Any) -> TabularClassification:
    return TabularClassification(options=TabularOptions(**{"fields": {"label": "kind"}, **options}), seed=0)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_is_divided_and_its_columns_are_told_apart(tmp_path: Path) -> None:
    splits = task(ignore=("plot",), text=("zip",)).read(write(tmp_path / "fruit.csv", CSV))
    assert [len(splits[name] or ()) for name in splits.names()] == [27, 5, 8]
    problem = task().problem(splits)
    assert problem == {"labels": ["apple", "pear"], "columns": {"zip": "text", "size": "number", "colour": "text"}}
    assert splits.train is not None
    assert splits.train[0].id.startswith("fruit.csv:")
    assert task().read(tmp_path / "fruit.csv").fingerprint != splits.fingerprint  # other columns


def test_a_directory_names_the_splits(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name, CSV)
    splits = task(valid_fraction=0).read(tmp_path)
    assert splits.names() == ["train", "test"]
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no table of training rows"):
        task().read(empty)


def test_faults_are_named_with_their_lines_or_skipped(tmp_path: Path) -> None:
    broken = CSV.replace("3,0456,1.5,", "3,0456,,").replace("\n5,0123,2.5,", "\n5,0123,big,")
    path = write(tmp_path / "fruit.csv", broken)
    with pytest.raises(DataError) as caught:
        task().read(path)
    assert caught.value.message.startswith("2 of 40 rows cannot be used: ")
    assert "fruit.csv:5: 'size' has no value" in caught.value.message
    assert "fruit.csv:7: 'size' is 'big', expected a number" in caught.value.message
    (note,) = task(on_error="skip").read(path).notes
    assert note.startswith("skipped 2 of 40 rows")


def test_labels_must_be_there_and_known(tmp_path: Path) -> None:
    path = write(tmp_path / "fruit.csv", CSV)
    with pytest.raises(DataError, match=r"fruit.csv:\d+: no column 'label'; the columns are plot, zip") as caught:
        task(fields={}).read(path)
    assert caught.value.hint == "name the column of the classes: data.fields.label=COLUMN"
    with pytest.raises(DataError, match="one class only"):
        task().read(write(tmp_path / "apples.csv", CSV.replace("pear", "apple")))
    problem = task().problem(task().read(path))
    with pytest.raises(DataError, match="is labelled 'peer', which the training rows are not") as caught:
        task().read(write(tmp_path / "new.csv", CSV.replace("pear", "peer")), problem)
    assert caught.value.hint == "did you mean 'pear'?"


def test_a_row_comes_as_a_mapping_or_as_json() -> None:
    problem = {"labels": ["a", "b"], "columns": {"size": "number", "colour": "text"}}
    row = task().parse({"row": {"size": "3", "colour": "red", "other": 1}}, problem)
    assert row.values == {"size": 3.0, "colour": "red"}
    assert task().parse({"row": '{"size": 3, "colour": "red"}'}, problem) == row
    for wrong, words in (
        ({"size": 3, "color": "red"}, "'colour' has no value"),
        (7, "int, expected a mapping"),
        ("{", "not JSON"),
    ):
        with pytest.raises(InputError, match=words):
            task().parse({"row": wrong}, problem)


def test_a_mixture_gains_on_one_component(tmp_path: Path) -> None:
    """Two clusters of one class around the other: no single Gaussian fits them."""
    rows = [{"x": side * 5 + n / 50, "label": "out" if side else "in"} for n in range(40) for side in (-1, 0, 0, 1)]
    scores = {}
    for model in ("tabular/naive-bayes", "tabular/mixture"):
        run = plait.train("tabular/classification", model, rows, out=tmp_path / model, output={"report": False})
        scores[model] = run.metrics["test"]["log_loss"]
    assert scores["tabular/mixture"] < 0.5 * scores["tabular/naive-bayes"]


def test_adapters() -> None:
    assert row_to_text({"age": 31, "class": "second"}) == "age is 31. class is second."
    assert label_to_row("7") == {"label": "7"}
    with pytest.raises(TypeError, match="a row is a mapping"):
        row_to_text("age")  # type: ignore[arg-type]  # that is the point
