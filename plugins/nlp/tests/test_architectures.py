"""Architectures of transformers as models: from sizes, from directories, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import plait
from plait.errors import RecipeError
from plait.libraries import transformers
from plait.model import Key
from plait.predictor import Predictor
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.architectures.tokenizers import TextTokenizer, load_tokenizer, train_tokenizer
from plait_nlp.examples import TextExample, TextSplit

WORDS = ["sun", "rain", "wind", "snow", "bread", "cheese", "apple", "soup"]
ROWS = [(f"{WORDS[index % 8]} {'and more ' * (index % 7)}", ("weather", "food")[index % 8 > 3]) for index in range(48)]
PROBLEM = {"objective": "classification", "target": "class", "labels": ["food", "weather"], "pairs": False}
TINY = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "max_length": 16, "vocabulary": 200}


def examples() -> TextSplit:
    """Labelled texts of different lengths."""
    return TextSplit([TextExample(text, None, label, str(index)) for index, (text, label) in enumerate(ROWS)])


def model(name: str = "transformers/bert", **options: Any) -> TransformersModel:
    """A tiny model that is not fitted."""
    made = TransformersOptions(name=name, **{**TINY, **options})
    return TransformersModel.create(options=made, problem=PROBLEM, train=examples(), seed=0)


def probabilities(of: TransformersModel, split: TextSplit) -> np.ndarray:
    """[examples, classes]."""
    return np.stack([each.probabilities for each in of.predict(list(split))])


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "byte", "char"])
@pytest.mark.parametrize("style", ["bert", "gpt", "seq2seq"])
def test_tokenizers_are_the_same_each_time_and_survive_json(kind: Any, style: Any) -> None:
    texts = [f"{text} naïve 日本 😀" for text, _ in ROWS]
    made = [train_tokenizer(texts, kind=kind, style=style, size=400) for _ in range(2)]
    assert made[0].as_json() == made[1].as_json()
    again = TextTokenizer.from_json(made[0].as_json())
    assert again.encode(texts) == made[0].encode(texts)
    if kind in ("byte", "char", "bpe"):
        assert again.decode(again.encode(["sun 日本 😀"])[0]) == "sun 日本 😀"
    surrounded = {"bert": ("cls", "sep"), "seq2seq": (None, "eos"), "gpt": (None, None)}[style]
    ids = again.encode(["sun"])[0]
    for token, role in zip((ids[0], ids[-1]), surrounded, strict=True):
        assert (token == again.id(role or "")) == bool(role)


def test_a_saved_model_loads_with_transformers_and_the_reverse(tmp_path: Path) -> None:
    library, ours = transformers(), model()
    ours.save(tmp_path)
    kind = library.AutoModelForSequenceClassification
    theirs = kind.from_pretrained(str(tmp_path), local_files_only=True).eval()
    assert library.AutoModel.from_pretrained(str(tmp_path), local_files_only=True) is not None
    tokenizer = library.AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    text = ROWS[5][0]
    with torch.no_grad():
        logits = theirs(**tokenizer(text, return_tensors="pt", truncation=True, max_length=16)).logits
    expected = logits.double().softmax(1).numpy()
    found = probabilities(ours, TextSplit([TextExample(text)]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert theirs.config.id2label == {0: "food", 1: "weather"}
    theirs.save_pretrained(str(tmp_path / "theirs"))
    tokenizer.save_pretrained(str(tmp_path / "theirs"))
    back = model("transformers/auto", directory=str(tmp_path / "theirs"))
    np.testing.assert_array_equal(probabilities(back, examples()), probabilities(ours, examples()))
    assert not back.notes or all("initialised" not in note for note in back.notes)


def test_a_trunk_without_head_says_what_is_new(tmp_path: Path) -> None:
    library, ours = transformers(), model()
    ours.network.bert.save_pretrained(str(tmp_path))
    ours.save_assets(tmp_path)
    back = model("transformers/bert", directory=str(tmp_path))
    assert any("classifier.weight" in note and "newly initialised" in note for note in back.notes)
    torch.testing.assert_close(back.network.bert.state_dict(), ours.network.bert.state_dict(), rtol=0, atol=0)
    assert len(load_tokenizer(tmp_path, transformers=library)) == len(ours.processor.tokenizer)


def test_long_texts_are_counted_and_cut() -> None:
    made = model(max_length=6)
    assert any("training texts have more than 6 tokens and are cut there" in note for note in made.notes)
    batch = made.processor.collate(list(examples()), [Key(0, 0, index) for index in range(48)], training=True)
    assert batch["input_ids"].shape == (48, 6)
    huge = TextExample("sun " * 250_000, None, "weather", "huge")
    assert probabilities(made, TextSplit([huge])).shape == (1, 2)


@pytest.mark.parametrize("text", ["😀😀", "مرحبا بالعالم", "\x00\x07 control", "a\ud800b", "."])
def test_strange_texts_get_finite_answers(text: str) -> None:
    made = model()
    assert np.isfinite(probabilities(made, TextSplit([TextExample(text)]))).all()


def test_predicting_many_sorts_by_length_and_restores_the_order() -> None:
    made, split = model(), examples()
    together = made.predict_all(list(split), batch_size=8)
    alone = [made.predict([each])[0] for each in split]
    found, expected = (np.stack([each.probabilities for each in part]) for part in (together, alone))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len({row.tobytes() for row in expected}) > 20  # else any order would do


def test_lora_trains_the_head_and_little_else(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    made = model(lora={"rank": 2})
    trained = {name for name, each in made.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in name or "classifier" in name for name in trained)
    made.save(tmp_path)
    back = TransformersModel.load(tmp_path, options=made.options, problem=PROBLEM)
    np.testing.assert_array_equal(probabilities(back, examples()), probabilities(made, examples()))
    with pytest.raises(RecipeError, match=r"model\.lora\.targets"):
        model(lora={"targets": ["nosuch"]})


def test_sizes_and_fields_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"model\.hidden=16 is no multiple of model\.heads=3"):
        model(heads=3)
    with pytest.raises(RecipeError, match=r"model\.config\.hiden_act: the config of bert has no such field") as caught:
        model(config={"hiden_act": "relu"})
    assert "hidden_act" in str(caught.value.hint)
    assert model(config={"hidden_act": "relu"}).network.config.hidden_act == "relu"
    with pytest.raises(RecipeError, match="no vocabulary"):
        model("transformers/vit")


def test_a_run_starts_from_another_run_of_other_labels(tmp_path: Path) -> None:
    options = {"trainer.epochs": 1, "output.baselines": False, "output.tensorboard": False, "output.report": False}
    common = {"name": "transformers/bert", **TINY}
    first = plait.train(
        "nlp/text-classification", common, ROWS, out=tmp_path / "one", trainer={"epochs": 1},
        output={name.partition(".")[2]: value for name, value in options.items() if name.startswith("output")},
    )  # fmt: skip
    rows = [(text, label.upper()) for text, label in ROWS]
    second = plait.train(
        "nlp/text-classification", {"from": str(first.path)}, rows, out=tmp_path / "two", trainer={"epochs": 1},
        output={"baselines": False, "tensorboard": False, "report": False},
    )  # fmt: skip
    predictor = plait.load(second.path)
    assert isinstance(predictor, Predictor)
    assert predictor(["sun", "bread"])[0].prediction in ("FOOD", "WEATHER")
