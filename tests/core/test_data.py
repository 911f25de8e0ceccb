"""Where data come from, how they are split, and how a run knows them again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.data import (
    carve,
    digest,
    digest_file,
    entries,
    fingerprint,
    is_datasets_directory,
    limit,
    named_parts,
    named_splits,
    no_such_path,
    read_datasets_directory,
    resolve_source,
)
from plait.errors import DataError
from plait_registry import DatasetSpec, Entry, Plugin, Registry, TaskSpec

# Sources


TASK = TaskSpec(
    name="fruit/sorting",
    summary="Sort fruit.",
    target="fruit:Task",
    accepts={"fruit": "text"},
    returns={"box": "label"},
)


def registry() -> Registry:
    specs = [
        DatasetSpec(name="apples", summary="Apples.", target="plait_test_fruit:apples", tasks=("fruit/sorting",)),
        DatasetSpec(
            name="pears", summary="Pears.", target="plait_test_fruit:apples", tasks=("fruit/sorting",), synthetic=True
        ),
        DatasetSpec(name="stones", summary="Stones.", target="plait_test_fruit:apples", tasks=("rock/sorting",)),
    ]
    entries = tuple(Entry(spec, "fruit", "plait-fruit", "1.0") for spec in specs)
    return Registry([Plugin("fruit", "plait-fruit", "1.0", entries=entries)])


@pytest.fixture(autouse=True)
def fruit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with a module that the specs' targets are in."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "plait_test_fruit.py").write_text("def apples():\n    return [('red', 'apple')]\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_a_registered_name_gives_its_data() -> None:
    assert resolve_source("apples", task=TASK, registry=registry()) == ([("red", "apple")], "apples")
    assert resolve_source("plait-fruit:apples", task=TASK, registry=registry())[0] == [("red", "apple")]
    assert resolve_source("pears", task=TASK, registry=registry())[1] == "pears (synthetic)"


def test_a_registered_name_wins_over_a_folder_unless_it_is_written_as_a_path(caplog: pytest.LogCaptureFixture) -> None:
    Path("apples").mkdir()
    assert resolve_source("apples", task=TASK, registry=registry())[1] == "apples"
    assert "write ./apples" in caplog.text
    assert resolve_source("./apples", task=TASK, registry=registry()) == (Path("apples"), "./apples")


def test_paths_and_values_pass_through() -> None:
    Path("fruit.csv").write_text("")
    assert resolve_source("fruit.csv", task=TASK, registry=registry())[0] == Path("fruit.csv")
    assert resolve_source("no/such", task=TASK, registry=registry())[0] == Path("no/such")  # the task says what is near
    assert resolve_source(Path("x"), task=TASK, registry=registry()) == (Path("x"), "x")
    assert resolve_source([1, 2], task=TASK, registry=registry()) == ([1, 2], "in memory")
    assert resolve_source(None, task=TASK, registry=registry())[0] is None


def test_an_unknown_source_gets_near_names_of_both_kinds() -> None:
    Path("appels").mkdir()
    with pytest.raises(DataError, match=r"'appless': no such file or directory in .*, and no data set") as caught:
        resolve_source("appless", task=TASK, registry=registry())
    assert "'./appels'" in str(caught.value.hint)
    assert "'apples'" in str(caught.value.hint)
    assert "apples, pears" in str(caught.value.hint)


def test_an_empty_source_is_not_the_working_directory() -> None:
    with pytest.raises(DataError, match=r"data\.source is empty"):
        resolve_source(" ", task=TASK, registry=registry())


def test_a_data_set_of_another_task_is_refused() -> None:
    with pytest.raises(DataError, match=r"'stones' .* is for rock/sorting, not for fruit/sorting") as caught:
        resolve_source("stones", task=TASK, registry=registry())
    assert "apples, pears" in str(caught.value.hint)


def test_a_missing_path_says_from_where_on_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    error = no_such_path(tmp_path / "fotos" / "cats")
    assert f"{tmp_path} has no 'fotos'" in error.message
    assert "photos" in str(error.hint)


def test_an_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # root, who often runs tests in a container, may read everything
    with pytest.raises(DataError, match="permission denied") as caught:
        entries(tmp_path)
    assert "chmod" in str(caught.value.hint)


# Named splits


def test_named_splits_know_their_aliases_and_are_ordered(tmp_path: Path) -> None:
    for name in ("test", "Train", ".hidden", "cats"):
        (tmp_path / name).mkdir()
    (tmp_path / "dev.csv").touch()
    (tmp_path / "train.log").touch()
    found = named_splits(tmp_path)
    assert list(found.items()) == [
        ("train", tmp_path / "Train"),
        ("valid", tmp_path / "dev.csv"),
        ("test", tmp_path / "test"),
    ]


def test_two_children_of_one_split_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "validation.jsonl").touch()
    with pytest.raises(DataError, match=r"val and validation\.jsonl are both the split 'valid'"):
        named_splits(tmp_path)


def test_a_mapping_from_split_names() -> None:
    assert list(named_parts({"validation": [1], "train": [2]}).items()) == [("train", [2]), ("valid", [1])]
    with pytest.raises(DataError, match="'trian' is no split's name"):
        named_parts({"trian": []})
    with pytest.raises(DataError, match="'val' and 'dev' are both"):
        named_parts({"val": [], "dev": []})


# Hugging Face datasets


def test_datasets_directories(tmp_path: Path) -> None:
    one = datasets.Dataset.from_dict({"text": ["a", "NA"]})
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one, "validation": one}).save_to_disk(tmp_path / "two")
    assert is_datasets_directory(tmp_path / "one")
    assert not is_datasets_directory(tmp_path)
    assert read_datasets_directory(tmp_path / "one")["text"][:] == ["a", "NA"]
    assert list(read_datasets_directory(tmp_path / "two")) == ["train", "valid"]
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"broken")
    with pytest.raises(DataError, match="one: not a readable datasets directory"):
        read_datasets_directory(tmp_path / "one")


# Drawing parts


labels = st.lists(st.sampled_from("abcde"), min_size=0, max_size=60)
fractions = st.floats(0, 0.99)
seeds = st.integers(0, 9)


@settings(max_examples=200, deadline=None)
@given(labels=labels, fraction=fractions, seed=st.integers(0, 2**32), stratify=st.booleans())
def test_carve_divides_completely_and_leaves_every_class(
    labels: list[str], fraction: float, seed: int, stratify: bool
) -> None:
    rest, part = carve(labels, fraction=fraction, seed=seed, stratify=stratify)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    assert list(rest) == sorted(rest)
    assert list(part) == sorted(part)
    assert {labels[index] for index in rest} == set(labels)
    again = carve(labels, fraction=fraction, seed=seed, stratify=stratify)
    assert np.array_equal(rest, again[0])
    spare = len(labels) - len(set(labels))
    assert len(part) == (min(max(1, round(len(labels) * fraction)), spare) if fraction and len(labels) > 1 else 0)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(10, 40), min_size=1, max_size=5), fraction=st.floats(0.1, 0.5), seed=seeds)
def test_a_stratified_part_has_every_class_s_share(sizes: list[int], fraction: float, seed: int) -> None:
    labels = [name for name, size in zip("abcde", sizes, strict=False) for _ in range(size)]
    _, part = carve(labels, fraction=fraction, seed=seed)
    drawn = Counter(labels[index] for index in part)
    for name, size in zip("abcde", sizes, strict=False):
        assert abs(drawn[name] - size * len(part) / len(labels)) < 1


def test_carve_is_the_same_everywhere_for_ever() -> None:
    # Pinned: a saved run's split must be found again by every later version, on every platform.
    assert carve(12, fraction=0.25, seed=7)[1].tolist() == [3, 6, 11]
    assert carve(list("aabbbbccccdd"), fraction=0.25, seed=7)[1].tolist() == [3, 6, 11]
    assert not np.array_equal(carve(100, fraction=0.5, seed=1)[1], carve(100, fraction=0.5, seed=2)[1])


def test_carve_refuses_a_fraction_that_is_none() -> None:
    with pytest.raises(ValueError, match="fraction"):
        carve(10, fraction=1.0, seed=0)


@settings(max_examples=100, deadline=None)
@given(labels=labels, most=st.integers(1, 80), seed=seeds)
def test_limit_keeps_order_and_shares(labels: list[str], most: int, seed: int) -> None:
    kept = limit(labels, most=most, seed=seed)
    assert len(kept) == min(most, len(labels))
    assert list(kept) == sorted(set(kept))
    drawn, sizes = Counter(labels[index] for index in kept), Counter(labels)
    for name, size in sizes.items():
        assert abs(drawn[name] - size * len(kept) / len(labels)) < 1


def test_no_limit_keeps_all() -> None:
    assert limit(4, most=None, seed=0).tolist() == [0, 1, 2, 3]


# Fingerprints


def test_fingerprints_tell_sequences_apart(tmp_path: Path) -> None:
    assert fingerprint(["a", "b"]) == fingerprint(iter(["a", "b"]))
    different: list[list[str | int | bytes | None]] = [
        ["ab"],
        ["a", "b"],
        ["b", "a"],
        [b"ab"],
        ["1"],
        [1],
        [None],
        ["None"],
        [],
    ]
    assert len({fingerprint(each) for each in different}) == len(different)
    (tmp_path / "x").write_bytes(b"content" * 1000)
    assert digest_file(tmp_path / "x") == digest(b"content" * 1000)
