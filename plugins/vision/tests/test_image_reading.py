"""Reading image data sets: what a source may be, how it is divided, and what is said of bad ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from plait.errors import DataError, InputError
from plait.evaluation import ClassPrediction
from plait.task import Splits
from plait_vision.image_classification import reading
from plait_vision.image_classification.task import ImageClassification, ImageOptions
from plait_vision.images import ImageExample

MakeFolder = Callable[..., Path]
GREY = np.arange(40 * 6 * 5).reshape(40, 6, 5).astype(np.uint8)


def task(*, seed: int = 0, **options: Any) -> ImageClassification:
    return ImageClassification(options=ImageOptions(**options), seed=seed)


def sizes(splits: Splits) -> dict[str, int]:
    return {name: len(splits[name] or ()) for name in splits.names()}


def refused(source: Any, message: str, *, problem: Any = None, **options: Any) -> DataError:
    """The error of reading `source`, which must match."""
    with pytest.raises(DataError, match=message) as caught:
        task(**options).read(source, problem)
    assert caught.value.hint
    json.dumps(caught.value.as_json())
    return caught.value


# Sources


def test_a_folder_per_class_is_divided_by_seed(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog", "eel/young", count=20)
    splits = task().read(folder)
    assert sizes(splits) == {"train": 43, "valid": 5, "test": 12}
    for part in (splits.test, splits.train):
        counts = Counter(part[index].label for index in range(len(part)))  # type: ignore[arg-type, index]  # is there
        assert max(counts.values()) - min(counts.values()) <= 1
    assert splits.index is not None
    ids = splits.index.column("id").to_pylist()
    assert len(set(ids)) == 60
    assert "eel/young/7.png" in ids
    again, other = task().read(folder), task(seed=1).read(folder)
    assert again.index == splits.index
    assert again.fingerprint == splits.fingerprint
    assert other.index != splits.index


def test_given_splits_are_kept_and_a_missing_valid_is_carved_from_train(make_folder: MakeFolder) -> None:
    folder = make_folder("train/cat", "train/dog", "test/cat", "test/dog", count=10)
    splits = task().read(folder)
    assert sizes(splits) == {"train": 18, "valid": 2, "test": 20}
    assert sizes(task(split="given").read(folder)) == {"train": 20, "test": 20}
    assert sizes(task(split="stratified").read(folder)) == {"train": 29, "valid": 3, "test": 8}
    assert sizes(task(valid_fraction=0).read(folder)) == {"train": 20, "test": 20}
    assert splits.train is not None
    assert splits.train[0].id == "train/cat/0.png"
    with_valid = make_folder("val/cat", "val/dog", count=3)
    assert sizes(task().read(with_valid)) == {"train": 20, "valid": 6, "test": 20}


def test_files_names_may_say_class_and_split(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog", count=6)
    splits = task(pattern=r"(?P<label>cat|dog)/(?:(?P<test>[01])|\d)\.png", valid_fraction=0).read(folder)
    assert sizes(splits) == {"train": 8, "test": 4}
    with pytest.raises(ValidationError, match="no group"):
        task(pattern=r"cat/.*")


def test_a_class_may_be_called_train(make_folder: MakeFolder) -> None:
    splits = task().read(make_folder("train", "plane"))
    assert task().problem(splits)["labels"] == ["plane", "train"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_of_paths_and_labels(make_folder: MakeFolder, suffix: str) -> None:
    folder = make_folder("images", count=6)
    rows = [
        {"file": f"images/{index}.png", "species": "NA" if index % 2 else "null", "split": split}
        for index, split in enumerate(["train", "train", "validation", "validation", "test", "test"])
    ]
    path = folder / f"labels.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "," if suffix == "csv" else "\t"
        path.write_text("\n".join([mark.join(rows[0]), *(mark.join(row.values()) for row in rows)]))
    splits = task(fields={"image": "file", "label": "species"}).read(path)
    assert sizes(splits) == {"train": 2, "valid": 2, "test": 2}
    assert task().problem(splits)["labels"] == ["NA", "null"]
    assert splits.test is not None
    assert splits.test[0].id == "images/4.png"
    assert splits.test[0].image.shape == (6, 8, 3)


def test_a_directory_of_tables(make_folder: MakeFolder) -> None:
    folder = make_folder("images", count=4)
    (folder / "train.csv").write_text("image,label\nimages/0.png,1\nimages/1.png,02\nimages/0.png,1\nimages/1.png,02\n")
    (folder / "test.jsonl").write_text('{"image": "images/2.png", "label": 1}\n')
    splits = task(split="given").read(folder)
    assert sizes(splits) == {"train": 4, "test": 1}
    assert task().problem(splits)["labels"] == ["1", "02"]
    assert splits.index is not None
    assert splits.index.column("id").to_pylist()[:3] == ["images/0.png", "images/1.png", "images/0.png#2"]


def test_images_inside_a_parquet_file(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog")
    cells = [
        {"bytes": (folder / name / f"{i}.png").read_bytes(), "path": None} for name in ("cat", "dog") for i in (0, 1, 2)
    ]
    pq.write_table(pa.table({"image": cells, "label": [0, 0, 0, 1, 1, 1]}), folder / "all.parquet")
    splits = task(cache=False).read(folder / "all.parquet")
    assert sum(sizes(splits).values()) == 6
    assert task().problem(splits)["labels"] == ["0", "1"]
    assert splits.train is not None
    assert splits.train[0].image.shape == (6, 8, 3)


def test_datasets_directories_with_class_labels(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("zebra", "ant", count=8)
    paths = [str(folder / name / f"{index}.png") for name in ("zebra", "ant") for index in range(8)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])})
    data = datasets.Dataset.from_dict({"image": paths, "label": [0] * 8 + [1] * 8}, features=features)
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "parts")
    splits = task(cache=False).read(tmp_path / "saved")
    assert sum(sizes(splits).values()) == 16
    assert task().problem(splits)["labels"] == ["zebra", "ant"]  # the order that the feature states
    assert splits.train is not None
    assert splits.train[0].image.shape == (6, 8, 3)
    assert sizes(task(split="given").read(tmp_path / "parts")) == {"train": 16, "test": 16}
    assert sizes(task().read(data)) == sizes(splits)


def test_data_in_memory() -> None:
    labels = [index % 2 for index in range(40)]
    as_arrays = task().read({"images": GREY, "labels": np.array(labels)})
    as_pairs = task().read(list(zip(GREY, labels, strict=True)))
    as_rows = task().read([{"image": image, "label": str(label)} for image, label in zip(GREY, labels, strict=True)])
    as_examples = task().read(
        [ImageExample(image[:, :, None], str(label), f"x/{label}") for image, label in zip(GREY, labels, strict=True)]
    )
    assert as_arrays.fingerprint == as_pairs.fingerprint == as_rows.fingerprint == as_examples.fingerprint
    assert sizes(as_arrays) == {"train": 29, "valid": 3, "test": 8}
    assert task().problem(as_arrays) == {"labels": ["0", "1"], "channels": 1, "height": 6, "width": 5}
    parts = task().read({"train": {"images": GREY, "labels": labels}, "dev": [(GREY[0], 1)], "test": [(GREY[1], 0)]})
    assert sizes(parts) == {"train": 40, "valid": 1, "test": 1}
    assert parts.train is not None
    assert parts.train[3].id == "train/3"
    assert parts.train[3].label == "1"
    assert np.array_equal(parts.train[3].image[:, :, 0], GREY[3])
    assert parts.train.in_memory  # type: ignore[attr-defined]  # an ImageSplit


def test_sixteen_bit_arrays_and_colour_beside_grey() -> None:
    colour = np.zeros((4, 4, 3), np.uint16)
    splits = task(test_fraction=0, valid_fraction=0).read([(colour, "a"), (colour[:, :, 0], "b")])
    assert splits.train is not None
    assert [splits.train[index].image.shape[2] for index in (0, 1)] == [3, 1]
    assert splits.train[0].image.dtype == np.uint16
    assert task().problem(splits)["channels"] == 3


def test_hidden_files_and_sidecars_are_counted_and_classes_sorted_by_number(make_folder: MakeFolder) -> None:
    folder = make_folder("10", "9", ".git")
    for name in ("9/.DS_Store", "9/Thumbs.db", "10/notes.txt", "readme.md"):
        (folder / name).write_text("x")
    splits = task().read(folder)
    assert task().problem(splits)["labels"] == ["9", "10"]
    assert any(note.startswith("ignored 4 files") and ".DS_Store (1)" in note for note in splits.notes)


def test_a_link_that_leads_back_up_ends(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog")
    (folder / "cat" / "again").symlink_to(folder / "cat")
    assert sum(sizes(task().read(folder)).values()) == 10


# Options


def test_a_limit_keeps_classes_known_and_shares(make_folder: MakeFolder) -> None:
    folder = make_folder("train/a", "train/b", "train/c", "test/a", "test/b", "test/c", count=10)
    splits = task(limit=6).read(folder)
    assert sizes(splits) == {"train": 6, "valid": 3, "test": 6}
    assert splits.train is not None
    assert Counter(splits.train[index].label for index in range(6)) == {"a": 2, "b": 2, "c": 2}
    assert task().problem(task(limit=1).read(folder))["labels"] == ["a", "b", "c"]


def test_labels_can_be_given_with_their_order(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("cat")
    (tmp_path / "names.txt").write_text("dog\ncat\n\n")
    for labels in (["dog", "cat"], str(tmp_path / "names.txt")):
        splits = task(labels=labels).read(folder)
        assert task().problem(splits)["labels"] == ["dog", "cat"]
    refused(folder, r"'cat' \(5 in test|'cat' \(\d in train", labels=["dog", "cow"])
    refused(folder, "'dog' twice", labels=["dog", "dog"])
    refused(folder, r"data\.labels: .*nams\.txt: no such file", labels=str(tmp_path / "nams.txt"))


def test_imagenet_s_classes_by_name_or_synset(make_folder: MakeFolder) -> None:
    folder = make_folder("test/n01440764", "test/goldfish, Carassius auratus", count=2)
    given = task(labels="imagenet-1k")
    splits = given.read(folder)
    assert sizes(splits) == {"test": 4}
    assert splits.index is not None
    assert sorted(set(splits.index.column("label").to_pylist())) == [
        "goldfish, Carassius auratus",
        "tench, Tinca tinca",
    ]
    nothing = given.read(None)
    assert nothing.names() == []
    problem = given.problem(nothing)
    assert len(set(problem["labels"])) == 1000
    assert problem["labels"][0] == "tench, Tinca tinca"
    assert problem["channels"] == 3


def test_a_trained_run_needs_its_file_of_labels_no_more(make_folder: MakeFolder, tmp_path: Path) -> None:
    reader = task(labels=str(tmp_path / "gone.txt"))
    splits = reader.read({"test": make_folder("cat", "dog")}, {"labels": ["dog", "cat", "owl"]})
    assert reader.problem(splits)["labels"] == ["dog", "cat", "owl"]


def test_a_trained_run_s_classes_are_kept(make_folder: MakeFolder) -> None:
    problem = {"labels": ["dog", "cat", "eel"], "channels": 3, "height": 8, "width": 8}
    splits = task().read({"test": make_folder("cat", "dog")}, problem)
    assert sizes(splits) == {"test": 10}  # a folder as one split: nothing is carved from it
    assert task().problem(splits)["labels"] == ["dog", "cat", "eel"]
    error = refused(make_folder("eels", root="other"), "1 labels that the trained run lacks: 'eels'", problem=problem)
    assert "did you mean 'eel'?" in str(error.hint)


def test_a_split_of_a_source_that_names_its_splits(make_folder: MakeFolder) -> None:
    folder = make_folder("train/cat", "train/dog", "test/cat", "test/dog", count=3)
    assert sizes(task(split="given").read({"train": folder, "test": folder})) == {"train": 6, "test": 6}


def test_headers_are_enough_where_asked_for(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog", count=10)
    Image.new("L", (30, 20)).save(folder / "cat" / "big.png")
    broken = folder / "cat" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    splits = task(verify="header", test_fraction=0, valid_fraction=0).read(folder)
    assert task().problem(splits) == {"labels": ["cat", "dog"], "channels": 3, "height": 6, "width": 8}
    assert splits.train is not None
    with pytest.raises(DataError, match=r"cat/0\.png is broken or truncated"):
        splits.train[0]


@pytest.mark.parametrize("cache", [True, False, "auto"])
def test_decoded_images_are_kept_where_they_fit(
    make_folder: MakeFolder, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CACHE_BYTES", 100)  # bytes: less than one of these images
    splits = task(cache=cache).read(make_folder("cat", "dog"))
    assert splits.train is not None
    assert splits.train.in_memory is (cache is True)  # type: ignore[attr-defined]  # an ImageSplit
    assert splits.train[0].image.shape == (6, 8, 3)


# Notes and fingerprints


def test_images_shared_by_two_splits_are_noted(make_folder: MakeFolder) -> None:
    folder = make_folder("train/cat", "train/dog", "test/cat", "test/dog", count=4)
    (folder / "test" / "cat" / "1.png").write_bytes((folder / "train" / "dog" / "2.png").read_bytes())
    splits = task(split="given").read(folder)
    assert [note for note in splits.notes if "byte for byte" in note] == [
        "1 of 8 images of test are also in train, byte for byte: first test/cat/1.png = train/dog/2.png"
    ]


def test_the_fingerprint_sees_contents_and_labels_of_training_data_only(make_folder: MakeFolder) -> None:
    folder = make_folder("train/cat", "train/dog", "test/cat", "test/dog")

    def now() -> str:
        return task().read(folder).fingerprint

    first = now()
    (folder / "test" / "cat" / "0.png").write_bytes((folder / "test" / "cat" / "1.png").read_bytes())
    assert now() == first
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "dog" / "00.png")
    assert now() != first


# Bad input


def test_broken_images_are_named_all_at_once(make_folder: MakeFolder, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_folder("cat", "dog", count=20)
    (folder / "cat" / "a.png").write_bytes(b"")
    (folder / "cat" / "b.jpg").write_text("hello")
    whole = (folder / "dog" / "3.png").read_bytes()
    (folder / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (5000, 5000)).save(folder / "dog" / "bomb.png")
    error = refused(folder, "4 of 43 examples cannot be used", max_pixels=1_000_000)
    for expected in (
        "a.png is empty (zero bytes)",
        "b.jpg is not an image",
        "3.png",
        "truncated",
        "decompression bomb",
    ):
        assert expected in error.message
    assert "data.on_error=skip" in str(error.hint)
    assert isinstance(error.details, dict)
    assert error.details["total"] == 4
    splits = task(on_error="skip", max_pixels=1_000_000).read(folder)
    assert sum(sizes(splits).values()) == 39
    assert any(note.startswith("skipped 4 of 43 examples") and "b.jpg" in note for note in splits.notes)
    assert capfd.readouterr() == ("", "")


def test_many_broken_images_are_listed_up_to_ten(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog")
    for index in range(25):
        (folder / "cat" / f"x{index}.png").touch()
    error = refused(folder, "25 of 35 examples")
    assert "and 15 more" in error.message
    assert isinstance(error.details, dict)
    assert len(error.details["files"]) == 10


def test_folders_that_are_no_data_set(make_folder: MakeFolder, tmp_path: Path) -> None:
    assert "set" in str(refused(make_folder("set/cat", root=".") / "sets", "no such file or directory").hint)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty is empty")
    refused(make_folder(".", root="loose"), "5 images, but no class folders")
    refused(make_folder("cat", root="one"), "one class only: .*'cat'")
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    refused(tmp_path / "hollow", "no images in")
    (tmp_path / "data.xyz").touch()
    assert ".parquet" in str(refused(tmp_path / "data.xyz", r"data\.xyz is no data set").hint)
    refused(tmp_path / "one" / "cat" / "0.png", "one image, not a data set")
    (tmp_path / "tabled").mkdir()
    (tmp_path / "tabled" / "labels.csv").touch()
    assert "labels.csv" in str(refused(tmp_path / "tabled", "no class folders, but labels").hint)


def test_a_class_without_images(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog")
    (folder / "eel").mkdir()
    refused(folder, "1 class folders hold no image: eel")


def test_a_label_that_training_lacks(make_folder: MakeFolder) -> None:
    folder = make_folder("train/cat", "train/dog", "test/cat", "test/dogs", count=3)
    error = refused(folder, r"labels that the training data lack: 'dogs' \(3 in test, first .*test/dogs/0\.png\)")
    assert "did you mean 'dog'?" in str(error.hint)


def test_a_class_too_small_to_be_divided(make_folder: MakeFolder) -> None:
    folder = make_folder("cat", "dog")
    make_folder("eel", count=1)
    error = refused(folder, r"1 classes have one image only.*'eel' \(first .*eel/0\.png\)")
    assert "data.split=random" in str(error.hint)
    splits = task(split="random").read(folder)
    assert task().problem(splits)["labels"] == ["cat", "dog", "eel"]


def test_splits_that_are_asked_for_and_are_not_there(make_folder: MakeFolder) -> None:
    refused(make_folder("cat", "dog"), "data.split=given, but the data name no splits", split="given")
    refused(make_folder("train/cat", "train/dog", root="b"), "there is no valid and test", split="given")
    refused(make_folder("test/cat", "test/dog", root="c"), "there is no train; the data have test")


def test_examples_without_label_or_image_are_found_by_line(make_folder: MakeFolder) -> None:
    folder = make_folder("images", count=4)
    path = folder / "all.csv"
    path.write_text("image,label\nimages/0.png,a\nimages/1.png,\n,b\nimages/9.png,b\nimages/3.png,b\nimages/2.png,a\n")
    error = refused(
        path, r"2 of 6 examples.*\n.*all\.csv:3 \(images/1\.png\) has no label.*\n.*all\.csv:4 has no image"
    )
    assert isinstance(error.details, dict)
    options: dict[str, Any] = {"on_error": "skip", "test_fraction": 0, "valid_fraction": 0}
    splits = task(**options).read(path)
    assert sizes(splits) == {"train": 3}
    assert sum("all.csv:5 (images/9.png) no such file" in note for note in splits.notes) == 1
    path.write_text("image,label,split\nimages/0.png,a,tran\n")
    refused(path, r"all\.csv:2: split is 'tran'")
    (folder / "loose.png").write_bytes((folder / "images" / "0.png").read_bytes())
    path.unlink()
    refused(folder, r"loose\.png has no label: it lies in set/ beside the class folders")


def test_a_missing_column_names_near_ones(make_folder: MakeFolder, tmp_path: Path) -> None:
    path = make_folder("images") / "all.csv"
    path.write_text("img,label\nimages/0.png,a\n")
    assert "data.fields.image=" in str(refused(path, r"all\.csv:1: no column 'image'").hint)
    datasets.Dataset.from_dict({"img": ["x"], "label": ["a"]}).save_to_disk(tmp_path / "saved")
    assert "data.fields.image=" in str(refused(tmp_path / "saved", "no column 'image'; its columns are 'img'").hint)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "no data are given"),
        ({"images": GREY, "labels": [1]}, "40 images and 1 labels"),
        ({"images": GREY, "targets": [1]}, "keys 'images', 'targets'"),
        ({"trian": []}, "'trian' is no split's name"),
        ([1, 2], r"data\[0\] is int"),
        (iter([]), "cannot read images from list_iterator"),
        ([(GREY[0], 0.5), (GREY[1], "a")], r"data\[0\] has no label: found 0\.5"),
        (
            [(GREY[0].astype(float), 0), (GREY[1], 1), (GREY[2], 0), (GREY[3], 1)],
            r"data\[0\] has floating-point pixels",
        ),
        ([], "no images"),
    ],
)
def test_bad_data_in_memory(source: Any, message: str) -> None:
    refused(source, message)


# Inputs and answers


def test_parse_takes_what_a_user_has(make_folder: MakeFolder) -> None:
    path = make_folder("cat") / "cat" / "0.png"
    pixels = np.asarray(Image.open(path))
    for value in (path, str(path), path.read_bytes(), Image.open(path), pixels, ImageExample(pixels)):
        example = task().parse({"image": value}, {})
        assert np.array_equal(example.image, pixels)
        assert example.label is None


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": "nowhere.png"}, r"nowhere\.png no such file"),
        ({"image": b"abc"}, "image is not an image"),
        ({"image": 3}, "is int; expected a path"),
        ({"imag": "x.png"}, "no input 'imag'"),
        ({}, "'image' is missing"),
    ],
)
def test_parse_says_what_is_wrong(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task().parse(inputs, {})


def test_present_shows_all_scores_of_few_classes_and_the_first_of_many() -> None:
    few = task().present(ClassPrediction(np.array([0.2, 0.7, 0.1])), {"labels": ["a", "b", "c"]})
    assert few.prediction == "b"
    assert few.outputs == {"label": "b"}
    assert few.scores == {"a": 0.2, "b": 0.7, "c": 0.1}
    labels = [f"class {index}" for index in range(100)]
    many = task().present(ClassPrediction(np.arange(100) / 4950), {"labels": labels})
    assert list(many.scores or {}) == ["class 99", "class 98", "class 97", "class 96", "class 95"]
    json.dumps(many.scores)


def test_the_evaluator_judges_by_the_problem_s_labels() -> None:
    evaluator = task().evaluator({"labels": ["a", "b"]}, [])
    evaluator.update([ClassPrediction(np.array([0.9, 0.1]))], [ImageExample(GREY[0], "a", "1")])
    assert evaluator.compute()["accuracy"] == 1.0
