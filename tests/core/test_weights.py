"""Weights that a user names: read without executing anything, refused in our own words."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.errors import DataError, IntegrityError
from plait.weights import load_tensors, read_weights, save_tensors, stream_tensors


class Bomb:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return subprocess.check_call, (["touch", str(self.touched)],)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, protocol: int, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "bomb.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "touched"), protocol))
    torch.save({"weight": Bomb(tmp_path / "touched")}, tmp_path / "bomb.pth")
    for name in ("bomb.bin", "bomb.pth"):
        with pytest.raises(DataError, match=f"{name}: .* a pickle of more than tensors") as refused:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(refused.value)  # torch's message advises to execute the file
    assert not (tmp_path / "touched").exists()
    assert not recwarn.list


def test_a_run_is_no_file_of_weights(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(DataError) as refused:
        read_weights(tmp_path)
    assert refused.value.hint == f"start from it with model.from={tmp_path}"


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    weight = torch.arange(3.0)
    tensors = {"a": weight, "b": weight, "c": weight, "d": weight, "other": torch.ones(2)}
    for index in range(6):
        save_tensors(tensors, tmp_path / f"{index}.safetensors", {"format": "pt"})
    assert len({(tmp_path / f"{index}.safetensors").read_bytes() for index in range(6)}) == 1
    assert load_tensors(tmp_path / "0.safetensors").keys() == tensors.keys()


def test_weights_that_come_one_at_a_time_are_split_when_large(tmp_path: Path) -> None:
    tensors = {f"layer.{number}": torch.randn(4, 5) for number in range(5)}
    tensors["tied"] = tensors["layer.4"]
    stream_tensors(tensors.items(), tmp_path / "model.safetensors", largest=2 * 4 * 5 * 4)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]  # fmt: skip
    found = load_tensors(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"layer.0": "../other.safetensors"}}')
    with pytest.raises(IntegrityError, match="outside its directory"):
        load_tensors(tmp_path / "model.safetensors")


def test_few_weights_are_one_file(tmp_path: Path) -> None:
    stream_tensors([("weight", torch.ones(3))], tmp_path / "model.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]
    assert torch.equal(load_tensors(tmp_path / "model.safetensors")["weight"], torch.ones(3))


def test_no_tensors_are_a_file_too(tmp_path: Path) -> None:
    save_tensors({}, tmp_path / "none.safetensors")
    assert load_tensors(tmp_path / "none.safetensors") == {}
