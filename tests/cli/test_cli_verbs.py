"""The life of a run from the command line: config, train, run, evaluate, predict, runs, compare."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plait.cli.output import Output
from plait.cli.recipe import Request
from plait.cli.session import Session
from plait.run import Run

TASK = "meadow/row-classification"
FAST = ("--set", "output.tensorboard=false", "--set", "output.report=false", "-q")


# config


def test_config_prints_a_recipe_file_with_the_origin_of_each_value(
    plait: Any, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "recipe.yaml").write_text(f"task: {TASK}\nmodel:\n  scale: false\n")
    monkeypatch.setenv("PLAIT_TRAINER__ITERATIONS", "7")
    words = ("config", "recipe.yaml", "--seed", "3", "--max-time", "2m", "--set", "data.fields.label=species")
    printed = plait(*words).out
    origins = {line.split(":")[0].strip(): line.split("# ")[1] for line in printed.splitlines() if "# " in line}
    assert origins["task"] == "recipe.yaml:1"
    assert origins["scale"] == "recipe.yaml:3"
    assert origins["iterations"] == "environment"
    assert origins["seed"] == "--seed"
    assert origins["max_time"] == "--max-time"
    assert origins["fields"] == "--set"
    assert origins["patience"] == "default"

    monkeypatch.delenv("PLAIT_TRAINER__ITERATIONS")
    (environment / "again.yaml").write_text(printed)
    tree = plait("config", "again.yaml", "--json").json["recipe"]
    assert tree == plait("config", "again.yaml", "--json").json["recipe"]
    assert tree["trainer"]["max_time"] == 120
    assert tree["data"]["fields"] == {"label": "species"}
    assert tree["trainer"]["iterations"] == 7


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5m", 90), ("45", 45)])
def test_max_time_reads_units(plait: Any, text: str, seconds: float) -> None:
    assert plait("config", TASK, "--max-time", text, "--json").json["recipe"]["trainer"]["max_time"] == seconds


@pytest.mark.parametrize("text", ["2x", "0", "-3", "ten"])
def test_a_wrong_time_is_refused(plait: Any, text: str) -> None:
    answer = plait("config", TASK, f"--max-time={text}", "--json")
    assert (answer.code, answer.error["type"]) == (2, "UsageError")
    assert "90s, 10m, 2h" in answer.error["message"]


# errors


@pytest.mark.parametrize(
    ("words", "type_", "said"),
    [
        (["train", "meadow/row-clasification"], "UnknownNameError", "meadow/row-classification"),
        (["train", TASK, "--model", "meadow/nearest-men"], "UnknownNameError", "meadow/nearest-mean"),
        (["train", TASK, "--set", "trainer.iteration=3"], "RecipeError", "iterations"),
        (["train", TASK, "--set", "nonsense"], "RecipeError", "path=value"),
        (["train", TASK, "--sed", "3"], "UsageError", "--seed"),
        (["train", TASK, "--data", "no/such.csv"], "DataError", "no/such.csv"),
        (["train", TASK, "--model", "extras/oracle"], "RecipeError", "plait run"),
        (["train", TASK, "--resume"], "UsageError", "--out"),
        (["train", "--resume", "--out", "nowhere"], "RunError", "nowhere"),
        (["train", "no.yaml"], "RecipeError", "no.yaml"),
        (["trian"], "UsageError", "'train'"),
        (["predict", "nowhere", "1"], "RunError", "nowhere"),
        (["predict", "nowhere"], "UsageError", "INPUT"),
        (["evaluate", "nowhere"], "RunError", "nowhere"),
        (["compare", "nowhere"], "UsageError", "two runs"),
        (["runs", "nowhere"], "RunError", "nowhere"),
    ],
)
def test_a_mistake_is_one_document_with_what_would_mend_it(plait: Any, words: list[str], type_: str, said: str) -> None:
    answer = plait(*words, "--json")
    assert answer.code == 2
    assert answer.error["type"] == type_
    assert said in answer.error["message"] + answer.error.get("hint", "")
    assert "Traceback" not in answer.err


def test_errors_without_json_are_text_on_stderr(plait: Any) -> None:
    answer = plait("train", TASK, "--set", "trainer.iteration=3")
    assert answer.out == ""
    assert answer.err.startswith("error: trainer.iteration: ")
    assert "\n  hint: did you mean 'iterations'?" in answer.err


def test_debug_shows_the_traceback_before_or_after_the_verb(plait: Any) -> None:
    for words in (["--debug", "show", "nothing"], ["show", "nothing", "--debug"]):
        assert "Traceback" in plait(*words).err


def test_an_unforeseen_error_is_one_line_and_exit_1(plait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("plait.run.find_runs", fail)
    answer = plait("runs", "--json")
    assert answer.code == 1
    assert answer.error["type"] == "InternalError"
    assert "ZeroDivisionError: a bug" in answer.error["message"]
    assert "--debug" in answer.error["hint"]


# train, run


def test_train_prints_its_document_and_resuming_prints_it_again(plait: Any, environment: Path) -> None:
    words = ("train", TASK, "--data", "meadow/demo", "--seed", "1", "--out", "run", *FAST, "--json")
    document = plait(*words).json
    assert list(document) == ["run", "task", "model", "metrics", "seconds", "engine", "processes"]
    assert (document["run"], document["task"], document["model"]) == ("run", TASK, "meadow/nearest-mean")
    assert list(document["metrics"]) == ["valid", "test"]
    assert (document["engine"], document["processes"]) == ("local", 1)

    for again in (words, ("train", "--out", "run", "--json")):  # the whole command, or the directory alone
        answer = plait(*again, "--resume")
        assert (answer.code, answer.json) == (0, document)
    refused = plait("train", "--out", "run", "--resume", "--seed", "2", "--json")
    assert (refused.code, refused.error["details"][0]["path"]) == (2, "seed")
    taken = plait(*words)
    assert (taken.code, taken.error["type"]) == (2, "RunError")
    assert "--resume" in taken.error["hint"]


def test_a_resumed_run_has_no_time_limit_of_the_command_before(plait: Any, environment: Path) -> None:
    words = ("train", TASK, "--data", "meadow/demo", "--out", "run", *FAST, "--json")
    plait(*words, "--max-time", "1000s")
    assert Run.open(environment / "run").recipe()["trainer"]["max_time"] == 1000
    resumed = Request(task=None, named={"out": "run"}, assignments=())
    (first, *_) = resumed.layers(Session(Output(machine=False)), resume=True)
    assert first.values["trainer"]["max_time"] is None


def test_resuming_where_there_is_no_run_starts_one(plait: Any) -> None:
    answer = plait("train", TASK, "--data", "meadow/demo", "--out", "new", "--resume", *FAST, "--json")
    assert answer.code == 0
    assert answer.json["metrics"]["test"]["accuracy"] > 0.8


def test_run_takes_the_demo_data_and_says_what_to_try_next(plait: Any) -> None:
    answer = plait("run", TASK, "--out", "my run", "--set", "output.tensorboard=false")
    assert answer.code == 0
    assert "accuracy" in answer.out
    assert "95% interval" in answer.out
    assert "synthetic" in answer.out
    assert f"report   {Path('my run', 'report.html')}" in answer.out
    command = next(line for line in answer.out.splitlines() if line.startswith("predict"))
    assert command.split(maxsplit=1)[1] == "plait predict 'my run' ROW"
    data = next(line for line in answer.out.splitlines() if line.startswith("data"))
    assert " train, " in data
    assert " labels: " in data


def test_an_option_of_the_recipe_written_as_a_flag_is_shown_the_way(plait: Any) -> None:
    answer = plait("train", TASK, "--data", "meadow/demo", "--max-iterations", "3")
    assert answer.code == 2
    assert "--set trainer.max_iterations=..." in answer.err


def test_run_of_a_recipe_file_trains_what_it_says(plait: Any, environment: Path) -> None:
    (environment / "slow.yaml").write_text(f"task: {TASK}\nmodel: extras/slow\noutput: {{report: false}}\n")
    answer = plait("run", "slow.yaml", "--out", "run", "--json", "-q")
    assert answer.json["model"] == "extras/slow"
    assert Run.open(environment / "run").info["steps"] == 4


def test_run_of_a_model_that_only_predicts_answers_for_the_demo_data(plait: Any) -> None:
    answer = plait("run", TASK, "--model", "extras/oracle", "--out", "oracle", "--json")
    assert answer.code == 0
    assert [each["prediction"] for each in answer.json["predictions"]] == ["far"] * 8
    assert answer.json["metrics"]["test"]["accuracy"] == pytest.approx(1 / 3)
    assert plait("predict", "oracle", '{"x": 0, "y": 0}', "--json").json[0]["prediction"] == "far"


def test_the_hub_is_asked_only_where_the_user_says_so(plait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plait("config", TASK)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    wish = ("config", TASK, "--set", "model.pretrained=true")  # this model has no such option; the wish is plain though
    plait(*wish)
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # as it was before the command: the user's own word counts for more
    monkeypatch.delenv("HF_HUB_OFFLINE")
    plait(*wish)
    assert "HF_HUB_OFFLINE" not in os.environ


# evaluate, compare, runs


def test_evaluate_judges_the_test_split_again(plait: Any, fitted: Path) -> None:
    document = plait("evaluate", fitted, "--json").json
    assert list(document) == ["run", "task", "model", "split", "examples", "metrics"]
    assert (document["split"], document["examples"]) == ("test", 36)
    recorded = Run.open(fitted).metrics["test"]
    assert {name: document["metrics"][name] for name in recorded} == pytest.approx(recorded)
    assert plait("evaluate", fitted, "--split", "valid", "--json").json["split"] == "valid"


def test_evaluate_other_data(plait: Any, fitted: Path, environment: Path) -> None:
    (environment / "rows.csv").write_text("x,y,label\n0,0,near\n4,1,far\n1,4,high\n4,1,near\n")
    document = plait("evaluate", fitted, "--data", "rows.csv", "--json").json
    assert (document["examples"], document["metrics"]["accuracy"]) == (4, 0.75)
    (environment / "rows.csv").write_text("x,y,label\n0,0,nowhere\n")
    assert "nowhere" in plait("evaluate", fitted, "--data", "rows.csv", "--json").error["message"]
    (environment / "rows.csv").write_text("x,y,kind\n0,0,near\n4,1,far\n")
    words = ("evaluate", fitted, "--data", "rows.csv", "--json", "--set")
    assert plait(*words, "data.fields.label=kind").json["examples"] == 2
    assert "did you mean 'fields'?" in plait(*words, "data.field.label=kind").error["hint"]
    assert plait(*words, "trainer.epochs=1").code == 2


def test_compare_says_when_no_difference_can_be_told(plait: Any, fitted: Path) -> None:
    plait("run", TASK, "--set", "model.scale=false", "--out", "other", *FAST)
    found = plait("compare", fitted, "other", "--json").json
    assert found[0]["runs"] == [str(fitted), "other"]
    assert found[0]["low"] <= 0 <= found[0]["high"]
    assert "no difference can be told" in plait("compare", fitted, "other").out

    plait("run", TASK, "--model", "extras/oracle", "--out", "oracle", *FAST)
    assert "no predictions" in plait("compare", fitted, "oracle", "--json").error["message"]


def test_runs_lists_every_run_even_one_that_cannot_be_read(plait: Any, fitted: Path, environment: Path) -> None:
    plait("run", TASK, *FAST)  # without --out: below runs/
    (environment / "runs" / "damaged").mkdir()
    (environment / "runs" / "damaged" / "run.json").write_text("{")
    rows = {row["name"]: row for row in plait("runs", "--json").json}
    assert rows["damaged"]["status"] == "unreadable"
    assert "damaged" in rows["damaged"]["error"]
    (other,) = (row for name, row in rows.items() if name != "damaged")
    assert (other["status"], other["task"]) == ("finished", TASK)
    text = plait("runs")
    assert "accuracy" in text.out
    assert "unreadable" in text.out
    assert plait("runs", fitted.parent, "--json").json[0]["run"] == str(fitted)


def test_no_runs_yet_is_no_error(plait: Any) -> None:
    answer = plait("runs", "--json")
    assert (answer.code, answer.json) == (0, [])


# predict

NEAR, FAR = '{"x": 0, "y": 0}', '{"x": 4, "y": 1}'


def test_predict_answers_in_order_and_exit_codes_tell_how_many_failed(plait: Any, fitted: Path) -> None:
    good = plait("predict", fitted, NEAR, FAR, "--json")
    assert good.code == 0
    assert [(each["input"], each["prediction"]) for each in good.json] == [(NEAR, "near"), (FAR, "far")]
    assert sum(good.json[0]["scores"].values()) == pytest.approx(1)

    some = plait("predict", fitted, NEAR, '{"x": 0}', FAR, "--json", "--batch-size", "1")
    assert some.code == 1
    assert [list(each) for each in some.json] == [
        ["input", "prediction", "scores"], ["input", "error"], ["input", "prediction", "scores"],
    ]  # fmt: skip
    assert plait("predict", fitted, "{}", "no row", "--json").code == 2


def test_predict_reads_objects_of_port_names_from_a_file(plait: Any, fitted: Path, environment: Path) -> None:
    lines = [f'{{"row": {NEAR}}}', "", '{"column": 1}', "no JSON", f'{{"row": {FAR}}}']
    (environment / "inputs.jsonl").write_text("\ufeff" + "\n".join(lines))
    answer = plait("predict", fitted, "--input-file", "inputs.jsonl", "--jsonl")
    assert answer.code == 1
    found = [json.loads(line) for line in answer.out.splitlines()]
    assert [each.get("prediction") for each in found] == ["near", None, None, "far"]
    assert found[0]["input"] == {"row": {"x": 0, "y": 0}}
    assert "inputs.jsonl:4" in found[2]["error"]


def test_predict_reads_one_input_a_line_from_other_files(plait: Any, fitted: Path, environment: Path) -> None:
    (environment / "inputs.txt").write_bytes(f"{NEAR}\n\n\xff\n{FAR}\n".encode("latin-1"))
    answer = plait("predict", fitted, "-f", "inputs.txt")
    assert answer.code == 1
    assert [line.split("\t")[1] for line in answer.out.splitlines()] == ["near", "far"]
    assert "inputs.txt:3: not UTF-8 text" in answer.err
    assert "did you mean 'inputs.txt'" in plait("predict", fitted, "-f", "input.txt").err


def test_predict_reads_stdin(plait: Any, fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.BytesIO(f'{NEAR}\n{{"row": {FAR}}}\n'.encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=lines))
    answer = plait("predict", fitted, "-", "--jsonl")
    assert [json.loads(line)["prediction"] for line in answer.out.splitlines()] == ["near", "far"]


def test_a_model_directory_alone_predicts(plait: Any, fitted: Path) -> None:
    assert plait("predict", fitted / "model", NEAR).out.split("\t")[1] == "near"


def test_a_changed_model_is_refused(plait: Any, environment: Path) -> None:
    plait("run", TASK, "--out", "run", *FAST)
    file = environment / "run" / "model" / "plait.json"
    file.write_text(file.read_text().replace("near", "naer", 1))
    answer = plait("predict", "run", NEAR, "--json")
    assert (answer.code, answer.error["type"]) == (2, "IntegrityError")
    assert "plait.json" in answer.error["message"]
