"""Which inputs a word or a line means, by the ports that a predictor accepts."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plait.cli.inputs import Input, read_inputs
from plait.cli.outcome import _sample
from plait.cli.predict import answers
from plait.task import Prediction
from plait_registry import Registry


def test_a_directory_means_its_files_where_the_port_takes_files(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png", ".hidden/d.png", ".e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    found = [each.value for each in read_inputs([str(tmp_path)], None, {"image": "image"})]
    assert found == [str(tmp_path / "a" / "c.png"), str(tmp_path / "b.png")]
    assert [*read_inputs([str(tmp_path)], None, {"text": "text"})] == [Input(str(tmp_path), str(tmp_path))]
    (nothing,) = read_inputs([str(tmp_path / "empty")], None, {"audio": "audio"})
    assert nothing.error == "the directory holds no files"


def test_several_ports_take_a_json_object() -> None:
    ports = {"question": "text", "context": "text"}
    good, bad = read_inputs(['{"question": "a", "context": "b"}', "a"], None, ports)
    assert good.value == {"question": "a", "context": "b"}
    assert bad.error == "expected a JSON object with the ports question, context"


def test_stdin_has_values_or_objects_of_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.BytesIO(b'good\n{"text": "fine"}\n{"other": 1}\n')
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=lines))
    found = [each.value for each in read_inputs(["-"], None, {"text": "text"})]
    assert found == ["good", {"text": "fine"}, '{"other": 1}']


def test_a_file_of_another_name_is_read_as_stdin_is(tmp_path: Path) -> None:
    (tmp_path / "list").write_text('a.png\n{"image": "b.png"}\n{"imag": 1}\n')
    found = [each.value for each in read_inputs([], str(tmp_path / "list"), {"image": "image"})]
    assert found == ["a.png", {"image": "b.png"}, {"imag": 1}]


def test_what_to_try_next_is_an_input_that_works() -> None:
    session: Any = SimpleNamespace(registry=Registry.discover())
    tried = {
        task: _sample(session, SimpleNamespace(task=task))  # type: ignore[arg-type]  # a run, as far as it is asked
        for task in ("recommendation/top-n", "speech/word-recognition", "speech/alignment")
    }
    assert list(tried.values()) == ["USER", "AUDIO", "--input-file INPUTS.jsonl"]


def test_answers_come_early_and_then_as_many_at_once_as_the_model_wants() -> None:
    handed: list[int] = []

    def predict(values: list[int], *, batch_size: int) -> list[Prediction]:
        handed.append(len(values))
        return [Prediction(prediction=-value) for value in values]

    predictor: Any = SimpleNamespace(predict=predict, ahead=4)
    inputs = [Input(shown=str(number), value=number) for number in range(20)]
    inputs[3] = Input(shown="3", error="broken")
    found = list(answers(predictor, inputs, batch_size=2))
    assert [(given.shown, answer.prediction) for given, answer in found if given.error is None] == [
        (str(number), -number) for number in range(20) if number != 3
    ]
    assert found[3][1].error == "broken"
    assert handed == [2, 3, 8, 6]  # of 2, 4, 8 and 6, without the broken one
