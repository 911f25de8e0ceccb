"""How long texts are read, divided by position and cut into pieces."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError, InputError
from plait.task import Splits
from plait_nlp.architectures.tokenizers import train_tokenizer
from plait_nlp.language_modelling.corpus import Corpus, Pieces
from plait_nlp.language_modelling.task import CausalLanguageModelling

texts = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=300)


def read(source: Any, **options: Any) -> Splits:
    return CausalLanguageModelling(options=CausalLanguageModelling.Options(**options), seed=0).read(source)


def corpus(*documents: str) -> Corpus:
    encoded = [each.encode() for each in documents]
    bounds = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    return Corpus(content=b"".join(encoded), bounds=bounds, names=[f"d{at}" for at in range(len(documents))])


def text_of(part: Any) -> str:
    return "".join(piece.text for piece in part)


@given(st.lists(texts, min_size=1, max_size=4), st.integers(16, 60), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_pieces_are_the_text_again(documents: list[str], size: int, context: int) -> None:
    pieces = Pieces(corpus(*documents), size=size, context=context)
    found, seen = [], ""
    for piece in pieces:
        if piece.first:
            seen = ""
        assert 0 < piece.size <= size
        assert len(piece.context.encode()) <= context
        assert seen.endswith(piece.context)
        seen += piece.text
        if piece.last:
            found.append(seen)
    assert found == documents


def test_bpe_makes_of_pieces_what_it_makes_of_the_whole() -> None:
    text = "The quick brown fox, it's said,  jumps\n\nover   the lazy dog. " * 20
    tokenizer = train_tokenizer([text], kind="bpe", style="gpt", size=300)
    pieces = Pieces(corpus(text), size=64, context=0)
    ids = tokenizer.encode([each.text for each in pieces], special=False)
    assert [token for each in ids for token in each] == tokenizer.encode([text], special=False)[0]


def test_one_text_is_divided_by_position_and_documents_are_kept_whole(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    (tmp_path / "input.txt").write_text(text)
    splits = read(tmp_path / "input.txt")
    cuts = [int(len(text) * share) for share in (0, 0.8, 0.9, 1)]
    for name, begin, end in zip(("train", "valid", "test"), cuts, cuts[1:], strict=False):
        assert text_of(splits[name]) == text[begin:end]
    assert splits.test is not None
    assert splits.test[0].context == ""  # nothing is seen of another split
    documents = [f"document {number} " * (number % 7 + 1) for number in range(100)]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": each}) for each in documents))
    parts = read(tmp_path / "d.jsonl")
    whole, joined = "".join(documents), ""
    for name in ("train", "valid", "test"):
        joined += text_of(parts[name])
        assert joined in ["".join(documents[:number]) for number in range(101)]
        assert len(joined) >= {"train": 0.8, "valid": 0.9, "test": 1}[name] * len(whole)
    assert joined == whole


def test_named_splits_are_kept_and_a_missing_valid_is_the_end_of_train(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abcdefghij" * 100)
    (tmp_path / "test.txt").write_text("klm" * 50)
    splits = read(tmp_path)
    assert text_of(splits.train) == "abcdefghij" * 90
    assert text_of(splits.valid) == "abcdefghij" * 10
    assert text_of(splits.test) == "klm" * 50
    only = read({"train": ["first", "second"], "test": tmp_path / "test.txt"}, split="given")
    assert only.names() == ["train", "test"]
    assert only.train is not None
    assert [piece.text for piece in only.train[0:2]] == ["first", "second"]  # type: ignore[index]  # a sequence


def test_a_long_file_is_mapped_and_its_pieces_travel_to_other_processes(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("word " * 50_000)
    splits = read(tmp_path / "long.txt", piece=512)
    assert isinstance(splits.train, Pieces)
    assert splits.train.corpus.content == tmp_path / "long.txt"  # not its bytes
    assert splits.train[3].text.startswith(" word")  # the map is made now
    state = pickle.dumps(splits.train)
    assert len(state) < 20_000
    copy = pickle.loads(state)  # noqa: S301  # our own object
    assert copy[7] == splits.train[7]


def test_fingerprints_tell_texts_divisions_and_documents_apart() -> None:
    prints = [
        read(["some words of a text"] * 2).fingerprint,
        read(["some words of a text"] * 2, piece=16).fingerprint,
        read(["some words of", " a textsome words of a text"]).fingerprint,
        read(["some words of a texT"] * 2).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert read(["some words of a text"] * 2).fingerprint == prints[0]


def test_limit_keeps_the_first_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0123456789abcdef" * 100)
    splits = read(tmp_path / "a.txt", piece=16, limit=3)
    assert text_of(splits.train) == "0123456789abcdef" * 3
    assert splits.index is not None
    assert splits.index["id"].to_pylist()[:2] == ["a.txt@0", "a.txt@16"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no text"),
        (b" \n\t\n", "no text"),
        (b"\x00\x01\x02\x00", "no text"),
        ("gr\u00fcn\nfour\u00e9\nna\u00efve\n".encode() + b"bro\xffken\n", ":4: byte 4"),
    ],
)
def test_what_is_no_text_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        read(tmp_path / "bad.txt")
    assert "bad.txt" in raised.value.message


def test_other_encodings_and_control_characters_are_noted(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("caf\u00e9 au lait\n".encode("latin-1") * 30)
    splits = read(tmp_path / "latin.txt")
    assert text_of(splits.train).startswith("caf\u00e9 au lait")
    assert any("read as latin-1" in note for note in splits.notes)
    with pytest.raises(DataError, match=":1: byte 4"):
        read(tmp_path / "latin.txt", encoding="utf-8")
    (tmp_path / "sixteen.txt").write_text("twelve words" * 20, encoding="utf-16")
    assert text_of(read(tmp_path / "sixteen.txt").train).startswith("twelve")
    (tmp_path / "mark.txt").write_text("\ufeffafter the mark " * 20, encoding="utf-8")
    assert text_of(read(tmp_path / "mark.txt").train).startswith("after")
    (tmp_path / "control.txt").write_text("one\ntwo\x00three\x07\n" * 3 + "four " * 40)
    notes = read(tmp_path / "control.txt").notes
    assert "6 control characters are part of the text (first in control.txt, line 2)" in notes


def test_short_texts_documents_in_two_splits_and_wrong_wishes_are_said() -> None:
    assert "test is empty: the text is too short to divide" in read(["ab"]).notes or read(["ab"]).test is not None
    notes = read({"train": ["same words", "other"], "valid": ["third"], "test": ["same words", "new"]}).notes
    assert any("1 of 2 documents of test are also in train" in note for note in notes)
    with pytest.raises(DataError, match="name no splits"):
        read(["a text"], split="given")
    with pytest.raises(DataError, match="leave nothing"):
        read(["a text"], valid_fraction=0.5, test_fraction=0.5)
    with pytest.raises(DataError, match="there is no train"):
        read({"test": ["a text"]})
    with pytest.raises(DataError, match="no data"):
        read(None)
    listed = read({"train": [{"text": ["two", "sentences"]}]}, split="given")
    assert text_of(listed.train) == "two sentences"
    with pytest.raises(DataError, match="no text, but int"):
        read([{"text": "fine"}, {"text": 3}])


def test_inputs_are_texts() -> None:
    task = CausalLanguageModelling(options=CausalLanguageModelling.Options(), seed=0)
    assert task.parse({"text": "hello"}, {}).text == "hello"
    for wrong in ({"text": ""}, {"text": 3}, {"words": "hello"}):
        with pytest.raises(InputError):
            task.parse(wrong, {})
