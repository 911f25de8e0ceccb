"""Directories of transformers that are not whole are named, before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import DataError, PlaitError, RecipeError
from plait_nlp.architectures.directory import check_block, check_encoder, known_types, need_tokenizer, read_directory


def make(path: Path, *names: str, config: str = '{"model_type": "bert"}') -> Path:
    """A directory with files of these names."""
    path.mkdir()
    for name in names:
        (path / name).write_text(config if name == "config.json" else "")
    return path


def test_a_missing_directory_is_named_with_what_is_near(tmp_path: Path) -> None:
    make(tmp_path / "my-bert", "config.json", "model.safetensors")
    with pytest.raises(DataError, match=r"my-brt: no such directory \(.*my-brt was looked for\)") as caught:
        check_block({"name": "transformers/auto", "directory": str(tmp_path / "my-brt")})
    assert f"did you mean '{tmp_path / 'my-bert'}'" in str(caught.value.hint)
    check_block({"name": "transformers/auto", "directory": str(tmp_path / "my-bert")})
    with pytest.raises(RecipeError, match=r"transformers/roberta, but .* says 'bert'"):
        check_block({"name": "transformers/roberta", "directory": str(tmp_path / "my-bert")})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), r"config\.json and weights \(model\.safetensors\) are missing"),
        (("tokenizer.json", "model.safetensors"), r"config\.json is missing"),
        (("config.json", "tokenizer.json"), r"weights \(model\.safetensors\) is missing"),
        (("config.json", "pytorch_model.bin"), "as a pickle"),
        (("run.json", "recipe.yaml"), "is a run of Plait"),
    ],
)
def test_what_a_directory_lacks_is_named(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_directory(make(tmp_path / "model", *names))


def test_a_directory_without_tokenizer_or_with_code_is_refused(tmp_path: Path) -> None:
    bare = make(tmp_path / "bare", "config.json", "model.safetensors")
    with pytest.raises(DataError, match="holds no tokenizer"):
        need_tokenizer(read_directory(bare))
    with pytest.raises(DataError, match="holds no tokenizer"):
        check_encoder({"directory": str(bare)})
    code = json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "modeling.Mine"}})
    with pytest.raises(DataError, match="never executes"):
        read_directory(make(tmp_path / "code", "config.json", "model.safetensors", config=code))
    with pytest.raises(DataError, match="says no model_type"):
        read_directory(make(tmp_path / "other", "config.json", "model.safetensors", config="{}"))


def test_unknown_architectures_say_what_is_near() -> None:
    assert {"bert", "gpt2", "t5", "gpt-sw3", "xlm-roberta"} <= set(known_types())
    with pytest.raises(RecipeError) as caught:
        check_block({"name": "transformers/brt"})
    assert "'bert'" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="needs a directory"):
        check_block({"name": "transformers/auto"})
    with pytest.raises(RecipeError, match="is no architecture, and no directory"):
        check_block({"name": "transformers/./nowhere"})
    check_block({"name": "transformers/bert"})


@pytest.mark.parametrize(
    "words", [("-m", "transformers/brt"), ("-m", "transformers/auto", "--set", "model.directory=no")]
)
def test_a_wrong_name_fails_before_torch_and_transformers_are_imported(words: tuple[str, ...]) -> None:
    code = (
        "import sys, time\nfrom plait.cli import main\n"
        f"sys.argv = ['plait', 'train', 'nlp/text-classification', '--data', 'locale-names', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('exit', end.code)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules], time.process_time() < 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "[] True" in done.stdout, done.stdout + done.stderr
    assert "was looked for" in done.stderr or "is no directory either" in done.stderr


def test_errors_of_directories_are_plait_errors() -> None:
    with pytest.raises(PlaitError):
        read_directory(Path("/nowhere/at/all"))
