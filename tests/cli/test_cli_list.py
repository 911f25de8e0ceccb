"""`plait list` and `plait show`: what is installed, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plait.cli.listing import LISTED
from plait_registry.registry import PROVIDERS
from tests.registry.throwaway import HEADER, hook, install, model

TASK = "meadow/row-classification"


def test_the_json_of_list_is_the_contract(plait: Any) -> None:
    answer = plait("list", "--json")
    assert answer.code == 0
    rows = answer.json
    assert all(list(row) == ["kind", "name", "modality", "summary", "plugin", "version"] for row in rows)
    assert {row["kind"] for row in rows} == set(LISTED)
    assert {
        "kind": "task", "name": TASK, "modality": "meadow", "summary": "Sort rows of numbers into classes",
        "plugin": "meadow", "version": "0.1.0",
    } in rows  # fmt: skip
    assert [row["name"] for row in rows if row["name"].startswith("timm/")] == ["timm/*"]


def test_list_filters_by_modality_and_kind(plait: Any) -> None:
    answer = plait("list", "--modality", "meadow", "--kind", "model", "--json")
    assert [row["name"] for row in answer.json] == ["meadow/nearest-mean"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--kind", "modle"], "no kind 'modle'", "'model'"),
        (["--modality", "medow"], "of modality 'medow'", "'meadow'"),
        (["--modality", "orchard"], "of modality 'orchard'", "pip install plait-orchard"),
    ],
)
def test_an_unknown_filter_gets_a_near_name(
    plait: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str, hint: str
) -> None:
    monkeypatch.setitem(PROVIDERS, "orchard", "plait-orchard")
    answer = plait("list", *words, "--json")
    assert answer.code == 2
    assert answer.error["type"] == "UnknownNameError"
    assert message in answer.error["message"]
    assert hint in answer.error["hint"]


def test_the_table_is_aligned_text_where_no_terminal_is(plait: Any) -> None:
    lines = plait("list", "--modality", "meadow").out.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "SUMMARY", "PLUGIN"]
    assert len({line.index("meadow/") for line in lines[1:]}) == 1
    assert lines[1].endswith("meadow 0.1.0")


def test_a_broken_plugin_costs_one_line_on_stderr(plait: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "broken", "rotten", source=HEADER + "import nothing_of_the_kind\n")
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    answer = plait("list", "--json")
    assert answer.code == 0
    assert TASK in [row["name"] for row in answer.json]
    assert "1 plugin failed; see `plait plugins`" in answer.err
    assert "plugin failed" not in plait("list", "--json", "--quiet").err


def test_no_plugins_leaves_the_core(plait: Any) -> None:
    assert {row["plugin"] for row in plait("list", "--no-plugins", "--json").json} == {"core"}


def test_show_a_task(plait: Any, site: Path) -> None:
    found = plait("show", TASK, "--json").json
    assert found["accepts"] == {"row": "meadow-row"}
    assert found["returns"] == {"label": "label"}
    assert found["models"] == ["meadow/nearest-mean", "extras/oracle", "extras/slow"]
    assert found["options"]["properties"]["on_error"]["default"] == "stop"
    file, line = found["location"].rsplit(":", 1)
    assert Path(file) == site / "plait_meadow" / "task.py"
    assert Path(file).read_text().splitlines()[int(line) - 1].startswith("class RowClassification")


def test_show_a_model_as_text_has_each_option_with_default_and_meaning(plait: Any) -> None:
    text = plait("show", "meadow/nearest-mean").out
    row = next(line for line in text.splitlines() if line.startswith("model.scale"))
    assert row.split()[1:3] == ["boolean", "true"]
    assert "units do not matter" in row
    assert "plait-meadow 0.1.0" in text


def test_an_extra_that_a_model_needs_is_shown(plait: Any) -> None:
    listed = plait("list", "--kind", "model", "--modality", "speech").out
    assert "; needs plait-speech[hmmlearn]" in next(line for line in listed.splitlines() if "speech/hmmlearn" in line)
    assert 'pip install "plait-speech[hmmlearn]"' in plait("show", "speech/hmmlearn").out
    assert plait("show", "speech/hmmlearn", "--json").json["requires"] == "plait-speech[hmmlearn]"
    assert plait("show", "speech/gmm-hmm", "--json").json["requires"] is None


def test_show_a_family_lists_its_members_and_names_near_ones(plait: Any) -> None:
    members = plait("show", "timm/").out.splitlines()
    assert "timm/resnet18" in members
    assert plait("show", "timm/resnet18", "--json").json["name"] == "timm/resnet18"
    answer = plait("show", "timm/resnet81")
    assert answer.code == 2
    assert "timm/resnet18" in answer.err


@pytest.mark.parametrize("name", ["label", "label-to-text", "meadow/demo", "local", "gradient"])
def test_show_knows_every_kind(plait: Any, name: str) -> None:
    assert plait("show", name, "--json").json["name"] == name


def test_show_an_unknown_name(plait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS, "orchard", "plait-orchard")
    assert "did you mean 'meadow/nearest-mean'" in plait("show", "meadow/nearest-men").err
    assert "pip install plait-orchard" in plait("show", "orchard/fruit-recognition").err


def test_one_name_of_two_kinds_asks_which(plait: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "twin", "twin", source=HEADER + hook("plait_models", model("meadow/demo")))
    monkeypatch.syspath_prepend(str(tmp_path / "twin"))
    assert plait("show", "meadow/demo", "--json").error["hint"] == "choose with --kind"
    assert plait("show", "meadow/demo", "--kind", "dataset", "--json").json["synthetic"] is True
    names = [
        (row["kind"], row["plugin"]) for row in json.loads(plait("list", "--json").out) if row["name"] == "meadow/demo"
    ]
    assert names == [("model", "twin"), ("dataset", "meadow")]
