"""Pairs of texts from parallel files, tables and Python, and what is said of broken ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from plait.errors import DataError, InputError
from plait.task import Splits
from plait_nlp.reading import TextOptions
from plait_nlp.sequence_to_sequence.task import Summarization, Translation, TranslationOptions

ENGLISH = [f"the {colour} {thing} number {index}" for index, (colour, thing) in enumerate(
    (colour, thing) for colour in ("red", "blue", "old", "new") for thing in ("house", "tree", "car", "dog", "boat")
)]  # fmt: skip
GERMAN = [f"Nummer {index}: {text.split()[2]}, {text.split()[1]}" for index, text in enumerate(ENGLISH)]


def parallel(folder: Path, stem: str, first: Sequence[str] = ENGLISH, second: Sequence[str] = GERMAN) -> Path:
    """Two files, one sentence a line."""
    for language, lines in (("en", first), ("de", second)):
        (folder / f"{stem}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def read(source: Any, **options: Any) -> Splits:
    """What translation makes of a source."""
    return Translation(options=TranslationOptions(**options), seed=0).read(source)


def pairs(splits: Splits, split: str) -> list[tuple[str, tuple[str, ...]]]:
    """Texts and their references."""
    part: Any = splits[split]
    return [(each.text, each.references) for each in part]


def test_files_that_are_named_after_splits_in_any_usual_way(tmp_path: Path) -> None:
    for stem in ("train", "val", "test_2016_flickr"):
        parallel(tmp_path, stem)
    splits = read(tmp_path, languages=("en", "de"))
    assert splits.names() == ["train", "valid", "test"]
    assert pairs(splits, "test")[3] == (ENGLISH[3], (GERMAN[3],))
    back = read(tmp_path, languages=("de", "en"))
    assert pairs(back, "train")[0] == (GERMAN[0], (ENGLISH[0],))
    assert back.fingerprint != splits.fingerprint


def test_one_pair_of_files_is_divided_by_the_seed(tmp_path: Path) -> None:
    parallel(tmp_path, "corpus")
    for source in (tmp_path, tmp_path / "corpus"):
        splits = read(source, languages=("en", "de"))
        found = [pair for name in splits.names() for pair in pairs(splits, name)]
        assert sorted(found) == sorted((one, (other,)) for one, other in zip(ENGLISH, GERMAN, strict=True))


def test_which_language_is_translated_is_never_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing says which") as caught:
        read(parallel(tmp_path, "train"))
    assert """data.languages='["de", "en"]'""" in str(caught.value.hint)


def test_files_of_different_lengths_are_named_with_both_counts(tmp_path: Path) -> None:
    parallel(tmp_path, "train", second=[*GERMAN[:4], "", *GERMAN[4:]])
    with pytest.raises(DataError, match=r"train\.en has 20 lines and .*train\.de has 21") as caught:
        read(tmp_path, languages=("en", "de"))
    assert "line 5 is blank" in str(caught.value.hint)


def test_two_test_sets_are_a_choice(tmp_path: Path) -> None:
    for stem in ("train", "test2016", "test2017"):
        parallel(tmp_path, stem)
    with pytest.raises(DataError, match="test2016, test2017 are all for test") as caught:
        read(tmp_path, languages=("en", "de"))
    assert "data.files.test=test2016" in str(caught.value.hint)
    chosen = read(tmp_path, languages=("en", "de"), files={"test": "test2017"})
    assert chosen.names() == ["train", "valid", "test"]
    with pytest.raises(DataError, match="holds no test2018") as caught:
        read(tmp_path, languages=("en", "de"), files={"test": "test2018"})
    assert "test2017" in str(caught.value.hint)


def test_a_missing_side_and_an_odd_name_are_said(tmp_path: Path) -> None:
    (parallel(tmp_path, "train") / "train.de").unlink()
    with pytest.raises(DataError, match=r"train\.de: no such file"):
        read(tmp_path, languages=("en", "de"))
    parallel(tmp_path, "europarl")
    parallel(tmp_path, "books")
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").unlink(missing_ok=True)
    with pytest.raises(DataError, match="named train, valid or test"):
        read(tmp_path, languages=("en", "de"))


def test_blank_lines_stop_with_the_line_or_are_skipped_and_counted(tmp_path: Path) -> None:
    parallel(tmp_path, "train", second=[*GERMAN[:6], " ", *GERMAN[7:]])
    with pytest.raises(DataError, match=r"train\.en:7 \(and train\.de:7\) has an empty target"):
        read(tmp_path, languages=("en", "de"))
    skipped = read(tmp_path, languages=("en", "de"), on_error="skip")
    assert any("skipped 1 of 20 pairs" in note for note in skipped.notes)


def test_bytes_that_are_no_utf8_and_other_line_ends(tmp_path: Path) -> None:
    folder = parallel(tmp_path, "train")
    odd = "".join(f"{line}\u2028\x85\r\n" for line in GERMAN)  # only \n ends a line
    (folder / "train.de").write_bytes(odd.encode())
    assert len(pairs(read(folder, languages=("en", "de"), valid_fraction=0), "train")) == 20
    (folder / "train.de").write_bytes("".join(f"{line} schön\n" for line in GERMAN).encode("latin-1"))
    splits = read(folder, languages=("en", "de"))
    assert any("train.de" in note for note in splits.notes)
    assert pairs(splits, "train")[0][1][0].endswith("schön")
    with pytest.raises(DataError, match=r"train\.de:1: .*not UTF-8"):
        read(folder, languages=("en", "de"), encoding="utf-8")


def test_tables_and_rows_with_one_or_several_references(tmp_path: Path) -> None:
    rows = [{"source": one, "target": [other, other.upper()]} for one, other in zip(ENGLISH, GERMAN, strict=True)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert pairs(read(file), "train")[0][1] == tuple(next(
        row["target"] for row in rows if row["source"] == pairs(read(file), "train")[0][0]
    ))  # fmt: skip
    tsv = tmp_path / "pairs.tsv"
    tsv.write_text("en\tde\n" + "".join(f"{a}\t{b}\n" for a, b in zip(ENGLISH, GERMAN, strict=True)), encoding="utf-8")
    named = read(tsv, fields={"source": "en", "target": "de"}, languages=("en", "de"))
    assert len(named.names()) == 3
    python = read({"train": list(zip(ENGLISH, GERMAN, strict=True)), "test": rows[:2]}, valid_fraction=0)
    assert pairs(python, "test")[1] == (ENGLISH[1], (GERMAN[1], GERMAN[1].upper()))
    with pytest.raises(DataError, match="no column 'source'") as caught:
        read(tsv, fields={"target": "de"})
    assert "data.fields.source=COLUMN" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"source": "a house", "target": ""}, "has an empty target"),
        ({"source": "a house", "target": []}, "has no reference"),
        ({"source": "a house", "target": ["ein Haus", " "]}, "has a reference that is ' '"),
        ({"source": "a house", "target": 3}, "has a target that is int"),
        ({"source": ["a", "house"], "target": "ein Haus"}, "has a source that is list, not a text"),
        ({"source": 4, "target": "vier"}, "no text, but int"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict[str, Any], words: str) -> None:
    good = [{"source": one, "target": other} for one, other in zip(ENGLISH, GERMAN, strict=True)]
    with pytest.raises(DataError, match=rf"data\[2\] .*{words}"):
        read([*good[:2], row, *good[2:]])
    assert len(read([*good[:2], row, *good[2:]], on_error="skip").notes) == 1


def test_a_document_may_be_a_list_of_its_sentences() -> None:
    rows = [{"source": [f"First {index}.", " Second. "], "target": [f"sum {index}", "other"]} for index in range(10)]
    task = Summarization(options=TextOptions(), seed=0)
    first: Any = (task.read(rows).train or [])[0]
    assert first.sentences == (first.text.split(" Second.")[0], "Second.")
    problem = task.problem(task.read(rows))
    assert task.parse({"text": ["One.", "Two."]}, problem).text == "One. Two."
    with pytest.raises(DataError, match="sentence"):
        task.read([{"source": ["", " "], "target": "x"}])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"text": "  "}, "the text is empty"),
        ({"text": 3}, "the text is int"),
        ({"texts": "a"}, "there is no input 'texts'"),
        ({"text": ["a", "b"]}, "the text is list"),
    ],
)
def test_an_input_that_is_no_text_is_refused(inputs: dict[str, Any], words: str) -> None:
    task = Translation(options=TranslationOptions(), seed=0)
    with pytest.raises(InputError, match=words):
        task.parse(inputs, {"objective": "sequence-to-sequence"})


def test_no_data_and_no_pairs_say_what_may_be_given(tmp_path: Path) -> None:
    for source in (None, [], tmp_path):
        with pytest.raises(DataError) as caught:
            read(source)
        assert "columns source and target" in str(caught.value.hint)
