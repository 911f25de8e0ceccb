"""What a source of some medium may look like, told by a description of the medium alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.checking import Sound, data_fingerprint, examine, shared
from plait.errors import DataError, InputError
from plait.folders import check_pattern
from plait.listing import Item, Listing, Media, name, seconds, settle
from plait.sources import input_value, list_source
from plait.splitting import Division, limited

SCENTS = Media(
    field="scent",
    noun="scent",
    suffixes=frozenset((".sc",)),
    supported="folders of .sc files",
    more={"nose": name, "start": seconds},
)
TOLD = Media(
    field="scent",
    noun="scent",
    suffixes=frozenset((".sc",)),
    supported="folders of .sc files",
    target="text",
    classes=False,
    more={"speaker": name},
)


def write(folder: Path, **files: str) -> Path:
    """Files by path, with "__" for "/" and the rest as it is: a__x_sc is a/x.sc."""
    for key, text in files.items():
        path = folder / key.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def targets(listing: Listing) -> dict[str, dict[str, str]]:
    """Targets by id and split."""
    return {split: {item.id: item.target for item in items} for split, items in listing.parts.items()}


def items(*labels: str, **more: Any) -> list[Item]:
    return [Item(label, label, str(row), f"row {row}", more) for row, label in enumerate(labels)]


# Folders


def test_classes_below_splits_or_not(tmp_path: Path) -> None:
    folder = write(tmp_path, train__rose__1_sc="", train__hay__1_sc="", val__rose__2_sc="", train__hay__about_md="")
    listing = list_source(folder, media=SCENTS, fields={})
    assert targets(listing) == {
        "train": {"train/hay/1.sc": "hay", "train/rose/1.sc": "rose"},
        "valid": {"val/rose/2.sc": "rose"},
    }
    assert listing.notes() == ["ignored 1 files that are no scents: *.md (1)"]
    assert targets(list_source({"test": folder / "train"}, media=SCENTS, fields={})).keys() == {"test"}
    with pytest.raises(DataError, match="names the splits train, valid, and has no test"):
        list_source({"test": folder}, media=SCENTS, fields={})


def test_names_of_files_say_what_they_are(tmp_path: Path) -> None:
    folder = write(tmp_path, a__rose1_sc="", a__hay2_sc="", b__rose3_sc="")
    rule = r"(?P<nose>\w)/(?P<label>[a-z]+)(?:(?P<test>3)|\d)\.sc"
    check_pattern(rule, SCENTS)
    listing = list_source(folder, media=SCENTS, fields={}, pattern=rule)
    assert targets(listing) == {"train": {"a/hay2.sc": "hay", "a/rose1.sc": "rose"}, "test": {"b/rose3.sc": "rose"}}
    assert [item.more for item in listing.parts["test"]] == [{"nose": "b"}]
    for wrong, said in (("(", "not a regular"), ("(?P<nose>.)", "no group"), ("(?P<label>.)(?P<nos>.)", "groups nos;")):
        with pytest.raises(ValueError, match=said):
            check_pattern(wrong, SCENTS)


def test_texts_lie_beside_files_or_in_one_of_their_folder(tmp_path: Path) -> None:
    """As many corpora have it, and as LibriSpeech has it, whose files' names begin with the speaker."""
    folder = write(
        tmp_path, x__a_sc="", x__a_txt="of  hay\n", x__b_sc="", x__other_txt="", y__7__26_trans_txt="7-26-0 OF ROSES\n"
    )  # fmt: skip
    (folder / "y" / "7-26-0.sc").touch()
    (folder / "y" / "7").rename(folder / "y" / "seven")
    (folder / "y" / "seven" / "26.trans.txt").rename(folder / "y" / "7-26.trans.txt")
    listing = list_source(folder, media=TOLD, fields={})
    assert targets(listing) == {"": {"x/a.sc": "of hay", "y/7-26-0.sc": "OF ROSES"}}
    assert [item.more for item in listing.parts[""]] == [{}, {"speaker": "7"}]
    assert [str(fault) for fault in listing.faults] == [
        f"{folder / 'x' / 'b.sc'} has no text: expected b.txt beside it, or a line of a *.trans.txt"
    ]
    assert listing.ignored == {"*.txt": 1}
    (folder / "x" / "a.txt").write_bytes(b"\xff\xfe")
    assert "cannot be read as UTF-8" in str(list_source(folder, media=TOLD, fields={}).faults[0])
    with_speakers = list_source(folder / "y", media=TOLD, fields={}, pattern=r"(?P<speaker>\d)-.*")
    assert with_speakers.parts[""][0].target == "OF ROSES"


def test_a_medium_without_target_is_every_file(tmp_path: Path) -> None:
    bare = Media(field="scent", noun="scent", suffixes=frozenset((".sc",)), supported="files", target=None)
    folder = write(tmp_path, a__1_sc="", b__c__2_sc="", notes_md="")
    assert list(targets(list_source(folder, media=bare, fields={}))[""]) == ["a/1.sc", "b/c/2.sc"]
    with pytest.raises(DataError, match="has no scents"):
        list_source(write(tmp_path / "none", notes_md=""), media=bare, fields={})


# Tables, datasets, rows


def test_further_columns_are_read_and_their_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("scent,label,who,start\na.sc,hay,ann,1.5\na.sc,hay,,\nb.sc,hay,ben,soon\n")
    listing = list_source(path, media=SCENTS, fields={"nose": "who"})
    assert [(item.id, item.more) for item in listing.parts[""]] == [
        ("a.sc@1.5", {"nose": "ann", "start": 1.5}),
        ("a.sc", {}),
    ]
    assert str(listing.faults[0]) == f"{path}:4 (b.sc) has the start 'soon'; expected seconds, or nothing"


def test_a_datasets_directory_states_the_order_of_its_classes(tmp_path: Path) -> None:
    features = datasets.Features({
        "scent": datasets.Value("string"), "label": datasets.ClassLabel(names=["rose", "hay"]),
        "nose": datasets.Value("string"),
    })  # fmt: skip
    rows = {"scent": ["a.sc", "b.sc", None], "label": [1, -1, 0], "nose": ["ann", None, None]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(tmp_path / "saved")
    for source in (tmp_path / "saved", data, {"train": data}):
        listing = list_source(source, media=SCENTS, fields={})
        assert listing.classes == ("rose", "hay")
        first, null = next(iter(listing.parts.values()))
        assert (first.read().name, first.target, first.more) == ("a.sc", "hay", {"nose": "ann"})
        assert null.read() is None
        assert "has no label" in str(listing.faults[0])


def test_rows_of_a_plugin_s_own_type_are_unpacked() -> None:
    media = Media(
        field="scent", noun="scent", suffixes=frozenset(), supported="rows", target="nose", more={"nose": name},
        unpack=lambda value: {"scent": value, "nose": "ann", "id": "own"} if isinstance(value, complex) else None,
    )  # fmt: skip
    listing = list_source([1j, (b"x", 7), {"scent": b"y", "nose": "ben"}], media=media, fields={})
    assert [(item.id, item.target, item.more) for item in listing.parts[""]] == [
        ("own", "ann", {"nose": "ann"}), ("1", "7", {"nose": "7"}), ("2", "ben", {"nose": "ben"}),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"data\[0\] is int") as error:
        list_source([3], media=media, fields={})
    assert "(scent, nose)" in str(error.value.hint)


def test_the_only_input_is_called_as_the_field() -> None:
    assert input_value({"scent": b"x"}, SCENTS) == b"x"
    with pytest.raises(InputError, match="no input 'scnt'") as error:
        input_value({"scnt": b"x"}, SCENTS)
    assert "'scent'" in str(error.value.hint)


def test_faults_stop_or_are_counted() -> None:
    listing = Listing(SCENTS)
    for row in range(12):
        listing.add("", b"x", None, id=str(row), where=f"row {row}")
    with pytest.raises(DataError, match=r"12 of 12 scents cannot be used(.|\n)*row 9 (.|\n)*and 2 more"):
        settle(listing.faults, total=12, on_error="stop", nouns="scents")
    assert settle(listing.faults, total=12, on_error="skip", nouns="scents")[0].startswith("skipped 12 of 12 scents")


# Dividing and checking


def division(**options: Any) -> Division:
    usual: dict[str, Any] = {"media": SCENTS, "how": "auto", "valid_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    return Division(**{**usual, **options})


@given(
    st.lists(st.sampled_from("abcd"), min_size=2, max_size=60), st.sampled_from(["auto", "random"]), st.integers(0, 9)
)
def test_a_division_loses_and_doubles_nothing_and_leaves_every_class_in_train(
    labels: list[str], how: str, seed: int
) -> None:
    listed = items(*labels)
    parts = division(how=how, seed=seed).of({"": listed})
    assert Counter(item.id for part in parts.values() for item in part) == Counter(item.id for item in listed)
    assert {item.target for item in parts["train"]} == set(labels)
    assert parts == division(how=how, seed=seed).of({"": listed})


def test_groups_are_whole_and_named() -> None:
    listed = [each for who in ("ann", "ben", "cat") for each in items("a", "b", "a", nose=who)]
    parts = division(how="nose", group="nose", test_groups=("ben",)).of({"": listed})
    heard = {split: {item.more["nose"] for item in part} for split, part in parts.items()}
    assert (heard["train"], heard["test"]) == ({"ann", "cat"}, {"ben"})
    assert heard["valid"] <= {"ann", "cat"}
    with pytest.raises(DataError, match="nobody is called 'bern'") as error:
        division(how="nose", group="nose", test_groups=("bern",)).of({"": listed})
    assert "'ben'" in str(error.value.hint)
    with pytest.raises(DataError, match="6 of 6 scents name no nose"):
        division(how="nose", group="nose").of({"": items(*"ababab")})


def test_a_class_with_one_example_is_refused_or_kept_for_training() -> None:
    listed = items(*"aaaabbbbc")
    assert "c" in {item.target for item in division().of({"": listed})["train"]}
    with pytest.raises(DataError, match=r"1 classes have one scent only.*'c' \(first row 8\)"):
        division(single="refuse").of({"": listed})


def test_texts_are_no_classes() -> None:
    told = items(*map(str, range(10)))
    assert {split: len(part) for split, part in division(media=TOLD).of({"": told}).items()} == {
        "train": 6, "valid": 2, "test": 2,
    }  # fmt: skip
    assert len(limited({"train": told}, media=TOLD, most=4, seed=0)["train"]) == 4
    with pytest.raises(DataError, match="a text is no class"):
        division(media=TOLD, how="stratified").of({"": told})


class Split:
    """What `shared` and `data_fingerprint` ask of a split."""

    def __init__(self, *digests: str, targets: str = "") -> None:
        self.ids, self.digests = [f"{each}.sc" for each in digests], list(digests)
        self.targets = list(targets or "a" * len(digests))

    def __len__(self) -> int:
        return len(self.ids)


def test_what_two_splits_share_is_noted_and_the_fingerprint_sees_training_alone() -> None:
    splits = {"train": Split("x", "y"), "test": Split("y", "z")}
    assert shared(splits, nouns="scents", how="atom for atom") == [
        "1 of 2 scents of test are also in train, atom for atom: first y.sc = y.sc"
    ]
    first = data_fingerprint(splits)
    assert data_fingerprint({**splits, "test": Split("q")}) == first
    assert data_fingerprint({**splits, "train": Split("x", "y", targets="ab")}) != first


@pytest.mark.parametrize("workload", [3, 2000])
def test_examining_names_faults_by_id_and_lets_other_errors_out(workload: int) -> None:
    def check(item: Item) -> Sound[int]:
        if item.target == "bad":
            raise KeyError("smells")
        return Sound(len(item.target), item.id)

    sound, faults = examine(
        items(*["good"] * workload, "bad"), check, error=KeyError, cache=False, cache_bytes=0
    )  # fmt: skip
    assert len(sound) == workload
    assert [str(fault) for fault in faults] == [f"row {workload} 'smells'"]
    with pytest.raises(KeyError):
        examine(items("bad"), check, error=ValueError, cache=False, cache_bytes=0)
