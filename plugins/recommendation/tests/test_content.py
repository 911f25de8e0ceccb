"""Items are what they are about: words, given vectors, or what a registered predictor makes of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from learned_examples import asks, problem_of, train_of

from plait.engine.local import LocalEngine
from plait.errors import DataError, RecipeError
from plait.options import EngineOptions
from plait.task import Prediction
from plait_recommendation.content import encoding
from plait_recommendation.content.model import ContentBased, ContentOptions

TITLES = ["red apple", "green apple pie", "apple tart", "blue train", "train of steam", None]


def fit(train: Any, **options: Any) -> ContentBased:
    given = ContentOptions(name="recommendation/content-based", **options)
    model = ContentBased.create(options=given, problem=problem_of(train), train=train, seed=0)
    engine = LocalEngine(EngineOptions(device="cpu"))
    state, progress = model.step(train, model.start(train, engine), engine)
    assert progress.converged
    model.finish(state)
    return model


def titled(**columns: Any) -> Any:
    kinds = {"title": "text", **{name: kind for name, (_, kind) in columns.items()}}
    values = {name: column for name, (column, _) in columns.items()}
    return train_of([[0], [3]], items=6, features={"title": TITLES, **values, "kinds": kinds})


@pytest.mark.parametrize("profile", ["mean", "attention"])
def test_words_in_common_bring_items_together_that_nobody_has_met(profile: str) -> None:
    model = fit(titled(), profile=profile)
    fruit, steam, like = model.predict([asks(history=[0]), asks(history=[3]), asks(history=[], item=4)])
    assert set(fruit.items[:2].tolist()) == {1, 2}
    assert steam.items[0] == 4
    assert like.items[0] == 3
    assert float(model.score(model.memory.histories)[0, 5]) == 0  # nothing is known of item 5


def test_what_each_item_of_a_history_adds_sums_to_the_score() -> None:
    for profile in ("mean", "attention"):
        model = fit(titled(), profile=profile)
        history = np.array([0, 3], np.int32)
        scores = model.score(train_of([history.tolist()], items=6).histories)[0]
        parts = model.weigh(history, np.arange(6, dtype=np.int32))
        torch.testing.assert_close(parts.sum(dim=1), scores)
        assert parts[1].argmax() == 0  # the apple pie is there for the apple


def test_given_vectors_are_used_as_they_are(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.1], [0.1, 1.0], None, [0.0, 1.0]], pa.list_(pa.float32()))
    model = fit(titled(vector=(vectors, "embedding")))
    assert model.predict([asks(history=[0])])[0].items[0] == 2
    assert model.predict([asks(1)])[0].items[:2].tolist() == [1, 5]  # user 1 met item 3; equals come by id
    model.save(tmp_path)
    loaded = ContentBased.load(tmp_path, options=model.options, problem=model.problem)
    assert np.array_equal(loaded.predict([asks(1)])[0].scores, model.predict([asks(1)])[0].scores)


def letters(returns: dict[str, str], *, fails: bool = False) -> Any:
    """A predictor of the embedding port: how often each letter is in a text."""

    def predict(inputs: list[dict[str, str]]) -> list[Prediction]:
        if fails:
            return [Prediction(error="too long")] * len(inputs)
        rows = [[float(each["text"].count(letter)) for letter in "abcdeglnoprst"] for each in inputs]
        return [Prediction(outputs={"vector": row}) for row in rows]

    return SimpleNamespace(accepts={"text": "text"}, returns=returns, optional=(), predict=predict)


def test_any_predictor_of_an_embedding_serves_and_any_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    train = titled(maker=(["a"] * 6, "categorical"))
    monkeypatch.setattr(encoding, "load", lambda path: letters({"vector": "embedding"}))
    model = fit(train, encoder="runs/letters")
    assert model.predict([asks(history=[1])])[0].items[0] in (0, 2)
    assert float(model.vectors[5].abs().sum()) == 0
    monkeypatch.setattr(encoding, "load", lambda path: letters({"label": "label"}))
    with pytest.raises(RecipeError, match=r"takes text and returns label \(label\)"):
        fit(train, encoder="runs/letters")
    monkeypatch.setattr(encoding, "load", lambda path: letters({"vector": "embedding"}, fails=True))
    with pytest.raises(DataError, match="item 'i0', column 'title': cannot be embedded: too long"):
        fit(train, encoder="runs/letters")


def test_without_an_item_table_or_with_a_wrong_column_it_says_what_is_missing() -> None:
    with pytest.raises(DataError, match="there is no item table"):
        fit(train_of([[0, 1]], items=2))
    with pytest.raises(DataError, match="no column 'titel'") as raised:
        fit(titled(), columns=["titel"])
    assert "title" in str(raised.value.hint)
