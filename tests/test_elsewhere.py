"""Does every network train and predict off the CPU? On a device that is not there: see `tests.elsewhere`.

What this finds is what a GPU would refuse: tensors of two places in one operation, also in the empty batch of an idle
process, in decoding, and in checkpoints. It computes nothing on a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import plait
from tests.elsewhere_cases import networks
from tests.processes import run

QUICK = {"recommendation/sasrec", "recommendation/two-tower", "vision/cnn", "speech/tdnn", "transformers/bert"}
"""Models of which `make test` runs one variant each; the others take a minute."""


def chosen() -> dict[str, bool]:
    """Every case of a network, and whether it is one of the quick."""
    left, found = set(QUICK), {}
    for case in networks(plait.registry()):
        found[str(case)] = case.model_name in left
        left.discard(case.model_name)
    return found


CASES = chosen()


def told(folder: Path, names: list[str]) -> dict[str, str]:
    run("tests.elsewhere_cases:tried", 1, folder, names=names)
    found: dict[str, str] = json.loads((folder / "told.json").read_text())
    return found


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return told(tmp_path_factory.mktemp("quick"), [name for name, fast in CASES.items() if fast])


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return told(tmp_path_factory.mktemp("others"), [name for name, fast in CASES.items() if not fast])


@pytest.mark.parametrize("name", [pytest.param(each, marks=() if CASES[each] else pytest.mark.slow) for each in CASES])
def test_a_network_trains_and_predicts_off_the_cpu(request: pytest.FixtureRequest, name: str) -> None:
    found = request.getfixturevalue("quick" if CASES[name] else "others")
    assert not found[name], found[name]


def test_training_state_goes_to_the_disk_and_back_and_the_device_takes_no_tensor_of_the_cpu(tmp_path: Path) -> None:
    run("tests.elsewhere_cases:core", 1, tmp_path)
