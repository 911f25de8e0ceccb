"""Models of language: what they score is exact, and what a text's tokens are does not matter to the units."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.errors import DataError, RecipeError
from plait.model import Key
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.architectures.tokenizers import TextTokenizer, train_tokenizer
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.demo import place_names
from plait_nlp.language_modelling.evaluation import LanguageEvaluator
from plait_nlp.language_modelling.model import GptModel, GptOptions
from plait_nlp.language_modelling.ngram import NgramModel, NgramOptions
from plait_nlp.language_modelling.predictions import UNKNOWN, TextScore
from plait_nlp.language_modelling.symbols import encoder_of
from plait_nlp.language_modelling.tokens import Blocks, Packing

TEXT = "the cat sat on the mat, and the dog sat on the cat; "
CHARACTERS, BYTES = (train_tokenizer([TEXT + "\u00e4\u4e2d"], kind=kind, style="gpt") for kind in ("char", "byte"))
PROBLEM = {"objective": "causal-language-modelling", "piece": 64}


def gpt(**options: Any) -> GptModel:
    """A tiny network that is not fitted, with weights large enough to tell positions apart."""
    made = GptOptions(name="nlp/gpt", **{"length": 8, "width": 16, "layers": 2, "heads": 2, **options})
    model = GptModel.create(options=made, problem=PROBLEM, train=[Piece(TEXT)], seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model.eval()


def ngram(pieces: list[Piece], **options: Any) -> NgramModel:
    model = NgramModel(options=NgramOptions(name="nlp/ngram", **options), problem=PROBLEM)
    model.count(pieces)
    return model


# Scoring


@pytest.mark.parametrize("settings_", [{}, {"positions": "learned"}, {"tokenizer": "byte"}, {"length": 64}])
def test_windows_score_each_token_once_with_half_a_window_before_it(settings_: dict[str, Any]) -> None:
    model = gpt(**settings_)
    packing = model.processor.packing
    piece = Piece("sat on the mat, and the cat", "the dog and ", first=False)
    context, text = packing.tokenizer.encode([piece.context, piece.text], special=False)
    row, length = [*context, *text], packing.length
    expected, place = 0.0, len(context)
    for start in range(len(context), len(row), length // 2):  # slowly: a forward for each token
        end = min(start + length // 2, len(row))
        begin = max(0, end - 1 - length)
        for place in range(start, end):
            with torch.no_grad():
                logits = model.network(torch.tensor([row[begin:place]]))[0, -1].double()
            expected -= float(logits.log_softmax(0)[row[place]])
            assert place - begin >= min(length // 2, place)
    assert place == len(row) - 1
    [found] = model.predict([piece])
    assert found.nats == pytest.approx(expected, rel=1e-5)
    assert (found.tokens, found.size, found.unknown) == (len(text), len(piece.text), 0)


def test_scores_do_not_depend_on_the_batch_and_are_shown_as_bits_per_byte() -> None:
    model = gpt()
    pieces = [Piece(TEXT), Piece("cat"), Piece("on the mat", "the dog ", first=False)]
    together, alone = model.predict(pieces), [model.predict([each])[0] for each in pieces]
    assert [each.nats for each in together] == pytest.approx([each.nats for each in alone], rel=1e-5)
    probability = sum(math.exp(-model.predict([Piece(each)])[0].nats) for each in sorted(set(TEXT)))
    assert 0.5 < probability < 1  # of a first character; the rest are special tokens


def test_characters_that_training_had_not_are_charged() -> None:
    model = gpt()
    [known, unknown] = model.predict([Piece("cat"), Piece("c\u00e4t")])
    assert (known.unknown, unknown.unknown, unknown.size) == (0, 1, 4)
    assert unknown.nats > UNKNOWN
    assert ngram([Piece(TEXT)]).predict([Piece("\u00e4")])[0].nats > UNKNOWN


def test_blocks_follow_one_another_and_are_cut_elsewhere_in_each_epoch() -> None:
    tokenizer = train_tokenizer([TEXT], kind="char", style="gpt")
    packing = Packing(tokenizer=tokenizer, length=10)
    pieces = [Piece(TEXT), Piece(TEXT[:9], first=False)]
    blocks = packing.units(pieces)
    whole = [packing.boundary, *tokenizer.encode([TEXT + TEXT[:9]], special=False)[0], packing.boundary]
    assert list(blocks.tokens) == whole
    assert blocks.tokens.dtype == np.uint16
    batch = packing.collate(list(blocks), [Key(0, 0, each) for each in range(len(blocks))], training=False)
    seen = {int(begin) + offset for begin in (each.start for each in blocks) for offset in range(10)}
    assert seen == set(range(len(whole) - 1))
    assert batch["target"][0, 0].tolist() == whole[1:11]
    assert batch["ids"][-1, 0].tolist() == whole[-11:-1]
    cut = [packing.collate([blocks[2]], [Key(0, epoch, 2)], training=True)["ids"][0, 0].tolist() for epoch in range(8)]
    assert len({tuple(each) for each in cut}) > 2
    joined = ",".join(map(str, whole))
    assert all(",".join(map(str, each)) in joined for each in cut)


def test_a_text_shorter_than_a_block_is_one_block() -> None:
    tokenizer = train_tokenizer([TEXT], kind="char", style="gpt")
    packing = Packing(tokenizer=tokenizer, length=100)
    blocks = packing.units([Piece("cat")])
    assert (len(blocks), blocks.length) == (1, 4)
    assert packing.shortage([Piece("cat")]) == "the training text has 4 tokens, which do not fill one block of 100"
    with pytest.raises(DataError, match="is empty"):
        packing.units([])


def test_documents_are_parted_by_a_boundary() -> None:
    packing = Packing(tokenizer=train_tokenizer([TEXT], kind="char", style="gpt"), length=4)
    blocks = packing.units([Piece("cat"), Piece("dog")])
    assert isinstance(blocks, Blocks)
    assert [place for place, each in enumerate(blocks.tokens) if each == packing.boundary] == [0, 4, 8]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_networks_of_transformers_do_not_see_what_they_predict(kind: str) -> None:
    options = TransformersOptions(
        name=f"transformers/{kind}", hidden=16, layers=1, heads=2, intermediate=32, max_length=16, vocabulary=300,
        tokenizer="bpe",
    )  # fmt: skip
    model = TransformersModel.create(options=options, problem=PROBLEM, train=[Piece(TEXT * 3)], seed=0).eval()
    ids = torch.arange(4, 12)[None]
    changed = ids.clone()
    changed[0, 5] += 1
    with torch.no_grad():
        one, other = (model.network(input_ids=each).logits for each in (ids, changed))
    assert torch.allclose(one[:, :5], other[:, :5], atol=1e-6)
    assert not torch.allclose(one[:, 5:], other[:, 5:], atol=1e-6)
    [score] = model.predict([Piece("the mat")])
    assert score.nats == pytest.approx(score.tokens * math.log(len(model.processor.tokenizer)), rel=0.2)


def test_a_tokenizer_that_loses_something_is_noted() -> None:
    options = TransformersOptions(
        name="transformers/gpt2", hidden=16, layers=1, max_length=16, vocabulary=100, tokenizer="wordpiece"
    )
    model = TransformersModel.create(options=options, problem=PROBLEM, train=[Piece(TEXT)], seed=0)
    assert any("does not keep texts as they are" in note for note in model.notes)


def test_sizes_must_fit() -> None:
    with pytest.raises(RecipeError, match=r"model\.width=16"):
        gpt(heads=3)


# n-grams


def slow(train: list[Piece], test: Piece, order: int) -> float:
    """Witten-Bell's probability of a text, as the paper has it: with dictionaries."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for piece in train:
        for place, each in enumerate(piece.text):
            for length in range(min(order, place + 1)):
                counts[piece.text[place - length : place]][each] += 1
    kinds, nats = len({each for piece in train for each in piece.text}) + 1, 0.0
    row = test.context + test.text
    for place in range(len(test.context), len(row)):
        probability = 1 / kinds
        for length in range(min(order, place + 1)):
            seen = counts.get(row[place - length : place])
            if seen is None:
                break
            total = sum(seen.values())
            probability = (seen[row[place]] + len(seen) * probability) / (total + len(seen))
        nats -= math.log(probability)
    return nats


@given(
    st.lists(st.text("ab c", min_size=1, max_size=30), min_size=1, max_size=4),
    st.text("abc d", min_size=1, max_size=20), st.text("ab", max_size=6), st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_ngrams_are_witten_bells(train: list[str], text: str, context: str, order: int) -> None:
    pieces, test = [Piece(each) for each in train], Piece(text, context, not context)
    [found] = ngram(pieces, order=order).predict([test])
    assert found.nats == pytest.approx(slow(pieces, test, order) + found.unknown * UNKNOWN, rel=1e-9)
    assert found.unknown == sum(each not in "".join(train) for each in text)


@given(st.text("ab c", min_size=1, max_size=30), st.text("abc", max_size=6))
@settings(max_examples=40, deadline=None)
def test_what_follows_a_history_sums_to_one_and_is_what_is_scored(train: str, history: str) -> None:
    model = ngram([Piece(train)], order=4)
    assert model.counts is not None
    shares = model.counts.following(model.numbers(history).tolist())
    assert shares.sum() == pytest.approx(1)
    for each, share in zip(model.alphabet, shares, strict=False):
        [score] = model.predict([Piece(chr(each), history)])
        assert math.exp(-score.nats) == pytest.approx(share)


def test_counts_do_not_depend_on_how_a_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ngram([Piece(TEXT * 4)], unit="byte")
    monkeypatch.setattr("plait_nlp.language_modelling.ngram._AT_ONCE", 2)
    text = TEXT * 4
    cut = [Piece(text[at : at + 20], text[max(0, at - 10) : at], at == 0) for at in range(0, len(text), 20)]
    parts = ngram(cut, unit="byte")
    assert whole.counts is not None
    assert parts.counts is not None
    for one, other in zip(whole.counts.orders, parts.counts.orders, strict=True):
        assert np.array_equal(one.codes, other.codes)
        assert np.array_equal(one.counts, other.counts)
    assert parts.predict(cut[3:4])[0].nats == pytest.approx(whole.predict(cut[3:4])[0].nats)


# Judging


def test_metrics_are_per_byte_per_character_and_per_token() -> None:
    evaluator = LanguageEvaluator()
    evaluator.update(
        [TextScore(8 * math.log(2), 2, 4), TextScore(4 * math.log(2), 1, 4, 1)], [Piece("abcd"), Piece("\u00e9\u00e9")]
    )
    found = evaluator.compute()
    assert found["bits_per_byte"] == pytest.approx(12 / 8)
    assert found["bits_per_character"] == pytest.approx(12 / 6)
    assert found["perplexity_per_byte"] == pytest.approx(2 ** (12 / 8))
    assert found["perplexity_per_token"] == pytest.approx(2**4)
    assert found["bytes_per_token"] == pytest.approx(8 / 3)
    assert found["unknown_tokens"] == pytest.approx(1 / 3)
    doubled = evaluator.measure(evaluator.table(), np.array([[2.0, 0.0], [0.0, 1.0]]))
    assert doubled.tolist() == pytest.approx([2, 1])


def test_bytes_that_a_prediction_leaves_out_cost_eight_bits_each() -> None:
    evaluator = LanguageEvaluator()
    evaluator.update([TextScore(0.0, 1, 1)], [Piece("abcd")])
    assert evaluator.compute()["bits_per_byte"] == pytest.approx(3 * 8 / 4)


# From beginning to end


def test_a_run_is_trained_judged_beside_its_baseline_and_scores_texts(tmp_path: Path) -> None:
    text = "".join(f"{number % 7} little {'pigs' if number % 2 else 'hens'} went home\n" for number in range(250))
    (tmp_path / "input.txt").write_text(text)
    run = plait.train(
        "nlp/causal-language-modelling",
        {"name": "nlp/gpt", "length": 32, "width": 32, "layers": 1, "heads": 2},
        {"source": str(tmp_path / "input.txt"), "piece": 64}, out=tmp_path / "run",
        trainer={"epochs": 2, "batch_size": 4, "learning_rate": 0.01}, output={"report": False},
    )  # fmt: skip
    test = run.metrics["test"]
    assert test["bits_per_byte"] < 1.0  # of five without a model
    assert run.info["baselines"]["nlp/ngram"]["test"]["bits_per_byte"] < 1.0
    interval = run.info["intervals"]["test"]
    assert interval["low"] < test["bits_per_byte"] < interval["high"]
    predictor = plait.load(tmp_path / "run")
    likely, unlikely = predictor(["3 little pigs went home", "3 pigs little home went"])
    assert likely.prediction < unlikely.prediction
    assert likely.prediction == pytest.approx(-likely.scores["log_probability"] / math.log(2) / 23)


def test_a_model_goes_on_from_another_with_its_tokens_and_a_length_of_its_own() -> None:
    first = gpt()
    options = GptOptions(name="nlp/gpt", length=24, width=16, layers=2, heads=2)
    train = [Piece("new text about mice")]
    processor = GptModel.take_processor(first.processor, options=options, problem=PROBLEM, train=train)
    second = GptModel.build(options=options, problem=PROBLEM, processor=processor, seed=3)
    assert second.start_from(first) == []
    assert second.notes == ["the training text has 20 tokens, which do not fill one block of 24"]
    with torch.no_grad():
        ids = torch.tensor([first.processor.packing.tokenizer.encode(["the cat"], special=False)[0]])
        assert torch.equal(first.network(ids), second.eval().network(ids))
    with pytest.raises(RecipeError, match=r"model\.from"):
        GptModel.take_processor(object(), options=options, problem=PROBLEM, train=None)


def test_names_of_places_are_in_one_split_only() -> None:
    parts = place_names()
    names = [name for part in parts.values() for name in part]
    assert len(names) == len(set(names)) > 5000
    assert "Deutschland" in names


@given(st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=60, deadline=None)
def test_look_ups_are_the_tokenizers_own(text: str) -> None:
    for tokenizer in (CHARACTERS, BYTES):
        [found] = encoder_of(tokenizer)([text])
        assert list(found) == tokenizer.encode([text], special=False)[0]
        assert not isinstance(found, list)  # it was looked up


def test_tokenizers_keep_every_byte(tmp_path: Path) -> None:
    text = "na\u00efve \u4e2d\u6587\r\n\ttabs  and \U0001f600 emoji "
    for kind in ("char", "byte", "bpe"):
        tokenizer: TextTokenizer = gpt(tokenizer=kind).processor.packing.tokenizer
        if kind != "char":
            assert tokenizer.decode(tokenizer.encode([text], special=False)[0]) == text
        assert tokenizer.decode(tokenizer.encode([TEXT], special=False)[0]) == TEXT
