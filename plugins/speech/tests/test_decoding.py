"""Decoders find what enumeration finds; language models are probabilities; files are read as they are written."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError, IntegrityError, RecipeError
from plait_speech.decoding.arpa import read_arpa, write_arpa
from plait_speech.decoding.ngram import END, UNKNOWN, Ngram
from plait_speech.decoding.search import GreedySearch, Hypothesis, PrefixBeamSearch, Rows, Search
from plait_speech.decoding.words import WordList, read_words
from plait_speech.decoding.writing import Decoding, Writing
from plait_speech.networks.units import BLANK, Units

CHARACTERS = Units("characters", (" ", "a", "b"))
WORDS = Units("words", ("aye", "bee"))
TEXTS = [["one", "two"], ["one", "two", "three"], ["two", "one"], []]


def rows(frames: int, width: int, seed: int) -> Rows:
    values = np.random.default_rng(seed).normal(size=(frames, width)) * 2
    normal: Rows = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return normal


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for number, _ in itertools.groupby(path) if number != BLANK)


def enumerated(found: Rows) -> dict[tuple[int, ...], float]:
    """ln P of every text, summed over its alignments one by one."""
    totals: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(found.shape[1]), repeat=len(found)):
        totals[collapsed(path)] += math.exp(sum(found[frame, number] for frame, number in enumerate(path)))
    return {text: math.log(total) for text, total in totals.items()}


def run(search: Search, found: Rows, *, pieces: int = 1) -> Hypothesis:
    for piece in np.array_split(found, pieces):
        search.advance(piece)
    return search.best(final=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_a_wide_beam_finds_the_most_probable_text(seed: int, frames: int) -> None:
    found = rows(frames, 4, seed)
    exact = enumerated(found)
    best = run(PrefixBeamSearch(CHARACTERS, beam=10_000), found)
    assert best.score == pytest.approx(max(exact.values()))
    assert exact[best.numbers] == pytest.approx(max(exact.values()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_language_model_bonus_and_word_list_count_as_they_say(seed: int, frames: int) -> None:
    found, language = rows(frames, 4, seed), Ngram.fitted([["a", "b"], ["ab"], ["b", "b"]], order=2)
    words = WordList(["a", "b", "ab"])
    search = PrefixBeamSearch(CHARACTERS, beam=10_000, language=language, weight=0.7, bonus=0.3, words=words)

    def score(numbers: tuple[int, ...], sound: float) -> float:
        said = "".join(CHARACTERS.symbols[number - 1] for number in numbers).split()
        return sound + 0.7 * language.text(said) + 0.3 * len(said)

    allowed = {
        numbers: score(numbers, sound)
        for numbers, sound in enumerated(found).items()
        if all(word in words for word in CHARACTERS.decode(numbers).split())
    }
    best = run(search, found)
    assert best.score == pytest.approx(max(allowed.values()))
    assert allowed[best.numbers] == pytest.approx(max(allowed.values()))


def test_greedy_collapses_the_best_path() -> None:
    found = np.log(np.array([[0.1, 0.7, 0.2], [0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]))
    best = run(GreedySearch(), found)
    assert WORDS.decode(best.numbers) == "aye aye bee"
    assert best.score == pytest.approx(math.log(0.7 * 0.6 * 0.8 * 0.6 * 0.6))


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_search_in_pieces_is_the_search_of_the_whole(pieces: int) -> None:
    found = rows(30, 4, 1)
    for make in (GreedySearch, lambda: PrefixBeamSearch(CHARACTERS, beam=4)):
        whole, best = run(make(), found), run(make(), found, pieces=pieces)
        assert best.numbers == whole.numbers
        assert best.score == pytest.approx(whole.score)


def test_an_unfinished_word_of_the_list_is_left_out() -> None:
    found = np.log(np.array([[0.01, 0.01, 0.97, 0.01]]))  # "a", and the list only has "ab"
    best = run(PrefixBeamSearch(CHARACTERS, beam=8, words=WordList(["ab"])), found)
    assert CHARACTERS.decode(best.numbers) == ""


def test_the_language_model_decides_between_sounds_alike() -> None:
    even = np.log(np.full((2, 3), 1 / 3))
    for favourite in ("aye", "bee"):
        language = Ngram.fitted([[favourite]] * 50, order=2)
        assert WORDS.decode(run(PrefixBeamSearch(WORDS, beam=8, language=language), even).numbers) == favourite


# Language models


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_of_what_may_follow_sum_to_one(order: int) -> None:
    model = Ngram.fitted(TEXTS, order=order)
    vocabulary = ["one", "two", "three", END, UNKNOWN]
    for history in [model.start(), ("one",), ("two",), ("three",), ("never",)]:
        total = sum(math.exp(model.score(history[: order - 1], word)[0]) for word in vocabulary)
        assert total == pytest.approx(1.0)


def test_witten_bell_by_hand() -> None:
    """Of "a b", "a a": after a come b, a and the end, once each; so P(b|a) = (1 + 3 P(b)) / (3 + 3), and P(b) =
    (1 + 3 / 4) / (6 + 3 ...)."""
    model = Ngram.fitted([["a", "b"], ["a", "a"]], order=2)
    once = (1 + 3 / 4) / (6 + 3)  # of six events, one is b; three kinds; four words with the unknown one
    assert math.exp(model.score((), "b")[0]) == pytest.approx(once)
    assert math.exp(model.score(("a",), "b")[0]) == pytest.approx((1 + 3 * once) / 6)
    assert model.text(["a", "b"]) == pytest.approx(
        model.score(("<s>",), "a")[0] + model.score(("a",), "b")[0] + model.score(("b",), END)[0]
    )


def test_models_survive_json_and_arpa(tmp_path: Path) -> None:
    model = Ngram.fitted(TEXTS, order=3)
    assert Ngram.from_json(json.loads(json.dumps(model.as_json()))) == model
    write_arpa(model, tmp_path / "model.arpa")
    read = read_arpa(tmp_path / "model.arpa")
    for text in (*TEXTS, ["never", "heard"], ["three", "one", "two"]):
        assert read.text(text) == pytest.approx(model.text(text), rel=1e-6)
    with pytest.raises(IntegrityError, match="describes no language model"):
        Ngram.from_json({"order": 2})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\\data\\\n\\1-grams:\n-1 a\n", "does not end with"),
        ("\\data\\\n\\2-grams:\n-1 a b\n\\end\\\n", r"found \\2-grams:, expected \\1-grams:"),
        ("\\data\\\n\\1-grams:\n-1 a b c\n\\end\\\n", ":3: .*expected a logarithm, 1 words"),
        ("\\data\\\n\\1-grams:\nnan a\n\\end\\\n", ":3: "),
        ("hello\n\\end\\\n", "no n-grams"),
    ],
)
def test_a_broken_arpa_file_is_named_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "lm.arpa").write_text(content)
    with pytest.raises(DataError, match=words):
        read_arpa(tmp_path / "lm.arpa")
    with pytest.raises(DataError, match=r"lm\.arpa"):
        read_arpa(tmp_path / "lm.arp")


def test_word_lists(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# names\nbee\n\naye\n")
    found = read_words(tmp_path / "words.txt")
    assert found.words == ("aye", "bee")
    assert found.begins("ay")
    assert not found.begins("ya")
    (tmp_path / "words.txt").write_text("bee\naye bee\n")
    with pytest.raises(DataError, match=r"words\.txt:2: .* more than one word"):
        read_words(tmp_path / "words.txt")


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="choose one"):
        Decoding(search="beam", ngram=2, language_model="x.arpa")
    assert Decoding(ngram=2).unused() == [
        "greedy search uses no language model; model.decoding.search=beam does, now or later"
    ]
    assert Decoding(ngram=2, search="beam").unused() == []


def test_flashlight_finds_what_the_best_alignment_says() -> None:
    pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is optional")
    found = rows(12, 4, 3)
    free = run(Writing(units=CHARACTERS).search(Decoding(search="flashlight", beam=50)), found)
    assert free.numbers == run(GreedySearch(), found).numbers
    listed = Writing(units=CHARACTERS, words=("ab", "b")).search(Decoding(search="flashlight", beam=50))
    said = CHARACTERS.decode(run(listed, found).numbers).split()
    assert said
    assert set(said) <= {"ab", "b"}


def test_flashlight_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "flashlight.lib.text", None)
    with pytest.raises(RecipeError, match="flashlight-text, which is not installed") as caught:
        Writing(units=CHARACTERS).search(Decoding(search="flashlight"))
    assert "pip install flashlight-text" in str(caught.value.hint)
