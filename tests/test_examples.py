"""Do the examples run, do their numbers make sense, and does the example plugin install like a stranger's?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PLAIT = (sys.executable, "-c", "import sys; from plait.cli import main; sys.exit(main())")


def run(*command: str | Path, cwd: Path, path: str = "") -> str:
    """What a command prints on stdout, in a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def number(pattern: str, text: str) -> float:
    """The number that a pattern's group finds."""
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


# Scripts


def test_train(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "train.py", tmp_path / "digits", cwd=tmp_path)
    assert number(r"test accuracy ([\d.]+) on 355 images", printed) >= 0.98
    assert 0.8 < number(r"baseline ([\d.]+) \(vision/nearest-centroid\)", printed) < 0.98
    assert re.findall(r"predicted (\d) with", printed) == ["0", "1", "2"]
    assert (tmp_path / "digits" / "report.html").stat().st_size > 10_000


def test_write_a_model(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "write_a_model.py", cwd=tmp_path)
    accuracy = number(r"example/patches: test accuracy ([\d.]+)", printed)
    assert accuracy >= 0.9
    assert number(r"loaded again: ([\d.]+) on 355 images", printed) == accuracy


def test_write_a_task(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "write_a_task.py", cwd=tmp_path)
    assert number(r"vision/cnn: test accuracy ([\d.]+)", printed) >= 0.95
    assert 0.5 < number(r"vision/nearest-centroid: test accuracy ([\d.]+)", printed) < 0.95
    assert "a 7 is odd" in printed


def test_compare_two_models(tmp_path: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "compare_two_models.py", cwd=tmp_path)
    first, second = (number(rf"vision/{name} +([\d.]+)", printed) for name in ("cnn", "mlp"))
    assert number(r"difference +([+-][\d.]+)", printed) == pytest.approx(first - second, abs=0.0011)
    assert number(r"p = ([\d.]+)", printed) < 0.05


def test_every_script_is_short() -> None:
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.glob("*.py")) <= 80


# The example plugin, built and installed in a folder that only these tests see


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--target", directory, EXAMPLES / "plait-tabular", cwd=directory)
    return str(directory)


def plait(site: str, cwd: Path, *arguments: str) -> Any:
    """The JSON document that a `plait` command prints."""
    return json.loads(run(*PLAIT, *arguments, "--json", cwd=cwd, path=site))


@pytest.fixture(scope="module")
def parity(site: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that says of a digit's name whether it is even."""
    directory = tmp_path_factory.mktemp("parity")
    lines = [f"{digit},{'odd' if digit % 2 else 'even'}" for digit in range(10) for _ in range(8)]
    (directory / "parity.csv").write_text("\n".join(["label,parity", *lines, ""]), encoding="utf-8")
    options = ("--set", "data.fields.label=parity", "--set", 'data.text=["label"]', "--out", "parity")
    model = ("--model", "tabular/naive-bayes", "--data", "parity.csv")
    document = plait(site, directory, "train", "tabular/classification", *model, *options)
    assert document["metrics"]["test"]["accuracy"] == 1.0
    return directory


def test_an_installed_plugin_is_listed(site: str, tmp_path: Path) -> None:
    rows: list[Mapping[str, str]] = plait(site, tmp_path, "list", "--modality", "tabular")
    names = {(row["kind"], row["name"]) for row in rows if row["version"] == "0.1.0" and row["plugin"] == "tabular"}
    models = {("model", f"tabular/{name}") for name in ("mlp", "mixture", "naive-bayes")}
    assert names == {("task", "tabular/classification"), ("dataset", "wine"), ("dataset", "passengers"), *models}


def test_an_installed_plugin_predicts_from_the_shell(site: str, parity: Path) -> None:
    right, wrong = plait_predict(site, parity, "parity", '{"label": "7"}', '{"lable": "7"}')
    assert (right["prediction"], right["input"]) == ("odd", '{"label": "7"}')
    assert "'label' has no value" in wrong["error"]


def test_an_image_classifier_feeds_the_plugins_task(site: str, parity: Path) -> None:
    """image -> label | label-to-row | row -> label: across plugins that know nothing of each other."""
    options = ("--model", "vision/mlp", "--data", "digits", "--set", "trainer.epochs=10", "--out", "digits")
    plait(site, parity, "train", "vision/image-classification", *options)
    code = """
import numpy, plait, sys
from PIL import Image
from sklearn.datasets import load_digits
digits, parity = plait.load("digits"), plait.load("parity")
try:
    digits | parity
except plait.PlaitError as error:
    print(error.hint)
chain = digits | plait.adapter("label-to-row") | parity
chain.save("even-or-odd")
loaded = load_digits()
images = (loaded.images[-200:] * (255 / 16)).astype("uint8")
answers = [answer.prediction for answer in chain(list(images))]
print(numpy.mean([answer == ("odd" if digit % 2 else "even") for answer, digit in zip(answers, loaded.target[-200:])]))
Image.fromarray(images[0]).save("digit.png")
"""
    hint, accuracy = run(sys.executable, "-c", code, cwd=parity, path=site).splitlines()
    assert hint == "a registered adapter fits: compose(a, plait.adapter('label-to-row'), b)"
    assert float(accuracy) > 0.9
    (answer,) = plait_predict(site, parity, "even-or-odd", "digit.png")
    assert answer["prediction"] in ("even", "odd")


def plait_predict(site: str, cwd: Path, *arguments: str) -> list[dict[str, Any]]:
    """The array that `plait predict` prints, also where some inputs fail (exit code 1)."""
    environment = {**os.environ, "PYTHONPATH": site, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [*PLAIT, "predict", *arguments, "--json"]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == int(any("error" in answer for answer in answers)), done.stderr
    return answers


def test_the_example_plugin_passes_its_own_tests(site: str, tmp_path: Path) -> None:
    """Its conformance suite among them, as its author would run it."""
    tests = EXAMPLES / "plait-tabular" / "tests"
    pytest_run = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tests}")
    printed = run(*pytest_run, tests, cwd=tmp_path, path=site)
    assert number(r"(\d+) passed", printed) >= 50
    assert number(r"(\d+) skipped", printed) == 6
