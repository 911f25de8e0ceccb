"""A local directory of transformers becomes a recogniser that hears what transformers hears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from plait import libraries
from plait.errors import DataError, RecipeError
from plait_speech.networks.wav2vec2 import Wav2Vec2, Wav2Vec2Options
from plait_speech.strings import synthetic_strings

STRINGS = synthetic_strings()["train"][:3]
PROBLEM = {"alphabet": sorted({each for string in STRINGS for each in string.text or ""}), "rate": 8_000}
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def make(**options: Any) -> Wav2Vec2:
    return Wav2Vec2.create(
        options=Wav2Vec2Options(name="speech/wav2vec2", **options), problem=PROBLEM, train=STRINGS, seed=0
    )


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("tokenizers", reason="transformers is optional")
    try:
        return libraries.transformers()
    except RecipeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("kind", "norm"), [("wav2vec2", "group"), ("wav2vec2", "layer"), ("hubert", "group"), ("wavlm", "group")]
)
def test_states_are_those_of_transformers(transformers: Any, tmp_path: Path, kind: str, norm: str) -> None:
    config = transformers.AutoConfig.for_model(kind, **SIZES, feat_extract_norm=norm)
    reference = transformers.AutoModel.from_config(config).eval()
    reference.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16_000}))
    model = make(directory=str(tmp_path)).eval()
    assert not model.notes
    batch = model.processor.collate(STRINGS, [], training=False)
    with torch.no_grad():
        states, counts = model.encode(batch["features"], batch["lengths"])
        for index, length in enumerate(batch["lengths"].tolist()):
            expected = reference(batch["features"][index : index + 1, :length]).last_hidden_state[0]
            assert len(expected) == int(counts[index])
            torch.testing.assert_close(states[index, : len(expected)], expected, atol=1e-4, rtol=1e-3)


def test_a_saved_one_needs_its_directory_no_more(transformers: Any, tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("wav2vec2", **SIZES)
    transformers.AutoModelForCTC.from_config(config).save_pretrained(tmp_path / "given")  # its head is not ours
    model = make(directory=str(tmp_path / "given"))
    assert not model.notes
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    gone = model.options.model_copy(update={"directory": str(tmp_path / "gone")})
    loaded = Wav2Vec2.load(tmp_path / "saved", options=gone, problem=PROBLEM)
    assert loaded.predict(STRINGS) == model.predict(STRINGS)


def test_directories_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        make(directory=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="model_type is 'bert'; expected wav2vec2, hubert, wavlm"):
        make(directory=str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not JSON"):
        make(directory=str(tmp_path))
    with pytest.raises(DataError, match="nowhere"):
        make(directory=str(tmp_path / "nowhere"))
    with pytest.raises(RecipeError, match=r"no multiple of model\.heads"):
        make(width=10, heads=4)
