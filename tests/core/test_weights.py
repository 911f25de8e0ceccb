"""Weights that a user names: read without executing anything, refused in our own words."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.errors import DataError
from plait.weights import load_tensors, read_weights, save_tensors


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
