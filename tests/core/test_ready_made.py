"""Models that only predict answer without a run, by name, and what they say becomes files."""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import plait
from plait.api import layers
from plait.config import resolve
from plait.demonstration import demonstrate
from plait.errors import InputError, RecipeError, RunError
from plait.evaluation import Evaluator
from plait.model import Model
from plait.options import ModelOptions
from plait.predictor import Predictor
from plait.readymade import ready_made
from plait.recordings import write_wav
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_registry import DatasetSpec, Entry, ModelSpec, Plugin, Registry, TaskSpec

RATE = 1_000


class Telegraphy(Task):
    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        return Splits(test=list(source or ()))

    def problem(self, splits: Splits) -> Problem:
        return {}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        raise RunError("nothing to judge by")

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> str:
        if not isinstance(inputs["text"], str):
            raise InputError("expected a text")
        return inputs["text"]

    def present(self, prediction: Any, problem: Problem) -> Prediction:
        return Prediction(len(prediction), outputs={"audio": (prediction, RATE)})


class KeyOptions(ModelOptions):
    unit: int = 10
    """Milliseconds of a letter."""


class TelegraphKey(Model):
    """A pulse for each letter, as high as its place in the alphabet."""

    Options = KeyOptions
    options: KeyOptions

    def __init__(self, options: KeyOptions) -> None:
        self.options, self.problem = options, {}

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options)

    def predict(self, examples: Sequence[str]) -> list[Any]:
        return [np.repeat([(ord(each) - 96) / 32 for each in text], self.options.unit) for text in examples]

    def save(self, directory: Path) -> None:
        (directory / "key.json").write_text(json.dumps({"unit": self.options.unit}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        return cls(options)


def words() -> list[str]:
    return ["sos", "cq"]


@pytest.fixture
def registry() -> Registry:
    task = {"accepts": {"text": "text"}, "returns": {"audio": "audio"}}
    specs = [
        TaskSpec(name="toy/telegraphy", summary="Dots.", target=f"{__name__}:Telegraphy", demo_data="words", **task),
        ModelSpec(
            name="toy/key", summary="A key.", target=f"{__name__}:TelegraphKey", tasks=("toy/telegraphy",), trainer=None
        ),
        ModelSpec(
            name="toy/fist", summary="Learns.", target=f"{__name__}:TelegraphKey", tasks=("toy/telegraphy",),
            trainer="iterative",
        ),
        DatasetSpec(name="words", summary="Two words.", target=f"{__name__}:words", tasks=("toy/telegraphy",)),
    ]  # fmt: skip
    entries = tuple(Entry(spec, "toy", "toy", "1.0") for spec in specs)
    core = [plugin for plugin in Registry.discover().plugins if plugin.distribution == "plait"]
    return Registry([*core, Plugin(name="toy", distribution="toy", version="1.0", entries=entries)])


def samples(file: str | Path) -> list[float]:
    with wave.open(str(file), "rb") as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, RATE)
        return (np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32_768).tolist()  # type: ignore[no-any-return]  # numpy says Any


def test_a_name_answers_without_a_run(registry: Registry) -> None:
    key = plait.load("toy/key", registry, options={"unit": 2})
    assert key("ab").prediction == 4
    array, rate = key("ab").outputs["audio"]
    assert (array.tolist(), rate) == ([1 / 32, 1 / 32, 2 / 32, 2 / 32], RATE)
    assert key.predict(["a", 3])[1].error == "expected a text"
    assert ready_made("toy/key", registry, assignments=["model.unit=3"])("a").prediction == 3


def test_a_directory_of_that_name_wins(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy/key").mkdir(parents=True)
    with pytest.raises(RunError, match="neither a run, nor a model directory"):
        plait.load("toy/key", registry)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("toy/kye", {}, "did you mean 'toy/key'"),
        ("toy/fist", {}, "is to be fitted first: plait train TASK --model toy/fist"),
        ("toy/key", {"unti": 2}, "did you mean 'unit'"),
    ],
)
def test_what_cannot_answer_says_what_to_do(registry: Registry, name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((RunError, RecipeError)) as error:
        plait.load(name, registry, options=options)
    assert words in str(error.value.hint)


def test_a_name_in_place_of_a_run_is_told_apart(registry: Registry) -> None:
    with pytest.raises(RunError, match="toy/key is a model, and no run directory") as error:
        plait.evaluate("toy/key", "words", registry=registry)
    assert "plait run TASK --model toy/key" in str(error.value.hint)


def test_a_run_of_it_holds_the_demo_answers_as_files(registry: Registry, tmp_path: Path) -> None:
    values = {"data.source": "words", "output.directory": str(tmp_path / "run"), "model.name": "toy/key"}
    shown = demonstrate(resolve(layers("toy/telegraphy", values), registry), registry)
    assert [each["input"] for each in shown.document()["predictions"]] == [0, 1]
    files = [each["files"]["audio"] for each in shown.document()["predictions"]]
    assert samples(files[1]) == [3 / 32] * 10 + [17 / 32] * 10
    loaded = plait.load(shown.run.path, registry)
    assert loaded("cq").outputs["audio"][0].tolist() == samples(files[1])


def test_it_answers_in_one_process_whatever_the_recipe_says(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"data.source": "words", "output.directory": str(tmp_path / "run"), "model.name": "toy/key"}
    caplog.set_level("WARNING", logger="plait")  # a command line with --quiet may have run in this process
    shown = demonstrate(resolve(layers("toy/telegraphy", {**values, "engine.processes": "2"}), registry), registry)
    assert (shown.run.status, shown.run.info["processes"]) == ("finished", 1)
    assert "engine.processes=2: a model that only predicts answers in one" in caplog.text


def test_a_composition_keeps_a_ready_made_part(registry: Registry, tmp_path: Path) -> None:
    whole = plait.adapter("label-to-text", registry) | plait.load("toy/key", registry, options={"unit": 1})
    loaded = plait.load(whole.save(tmp_path / "chain"), registry)
    assert loaded("ab").outputs["audio"][0].tolist() == [1 / 32, 2 / 32]
    part = loaded.stages[1]  # type: ignore[union-attr]  # it is a composition
    assert isinstance(part, Predictor)
    assert part.artifact.model_name == "toy/key"


def test_a_wav_file_holds_every_channel_and_clips_what_is_too_loud(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", (np.array([[0.5, -2.0], [float("nan"), 2.0]], np.float32), 8_000))
    with wave.open(str(tmp_path / "a.wav"), "rb") as sound:
        assert sound.getnchannels() == 2
        assert np.frombuffer(sound.readframes(2), "<i2").tolist() == [16_384, -32_768, 0, 32_767]
    for wrong in ("a.wav", (np.zeros((1, 1, 1)), 8_000), (np.zeros(3, np.int64), 8_000)):
        with pytest.raises(TypeError, match="an audio output is"):
            write_wav(tmp_path / "b.wav", wrong)
