"""`plait plugins`, `plait new plugin`, `plait doctor`: what is installed, whether it works, how to start one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.registry.throwaway import HEADER, install


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that lacks a module, and one that takes its time."""
    site = tmp_path / "broken"
    install(site, "rotten", source=HEADER + "import nothing_of_the_kind\n")
    install(site, "sluggish", source=HEADER)
    monkeypatch.syspath_prepend(str(site))


def test_plugins_says_which_failed_why_and_what_mends_it(plait: Any, broken: None) -> None:
    rows = {row["name"]: row for row in plait("plugins", "--json").json}
    assert rows["meadow"] == {
        "name": "meadow", "distribution": "plait-meadow", "version": "0.1.0", "status": "ok",
        "provides": ["meadow/row-classification", "meadow/nearest-mean", "meadow/demo", "meadow-row"],
    }  # fmt: skip
    assert rows["rotten"]["status"] == "failed"
    assert "nothing_of_the_kind" in rows["rotten"]["reason"]
    assert rows["rotten"]["hint"] == "pip install nothing_of_the_kind"
    text = plait("plugins").out
    assert "nothing_of_the_kind" in text
    assert "hint: pip install" in text


def test_a_switched_off_plugin_is_listed_as_disabled(plait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_DISABLE", "meadow,medow")
    rows = {row["name"]: row for row in plait("plugins", "--json").json}
    assert (rows["meadow"]["status"], rows["meadow"]["provides"]) == ("disabled", [])
    assert "note: PLAIT_DISABLE names 'medow'" in plait("plugins").out


def test_check_runs_the_contract_over_the_plugin_that_new_writes(plait: Any) -> None:
    answer = plait("plugins", "check", "meadow", "--json", "-q")
    assert answer.code == 0, answer.json
    results = answer.json
    assert {each["status"] for each in results} == {"passed", "skipped"}
    assert {"trains", "saves"} <= {each["check"] for each in results if each["status"] == "passed"}
    assert all(each["reason"] for each in results if each["status"] == "skipped")


def test_check_an_unknown_or_broken_plugin(plait: Any, broken: None) -> None:
    assert "did you mean 'meadow'" in plait("plugins", "check", "medow").err
    answer = plait("plugins", "check", "rotten", "--json")
    assert (answer.code, answer.error["type"]) == (2, "PluginError")
    assert "nothing_of_the_kind" in answer.error["message"]


def test_new_plugin_writes_a_package_without_a_trace_of_the_template(plait: Any, environment: Path) -> None:
    answer = plait("new", "plugin", "sea_ice", "--dir", "work", "--json")
    root = environment / "work" / "plait-sea-ice"
    assert answer.json["directory"] == str(Path("work", "plait-sea-ice"))
    assert sorted(answer.json["files"]) == sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
    )
    assert "src/plait_sea_ice/plugin.py" in answer.json["files"]
    for path in root.rglob("*"):
        assert "sprout" not in path.name
        assert path.is_dir() or "sprout" not in path.read_text()
    assert 'name = "plait-sea-ice"' in (root / "pyproject.toml").read_text()
    again = plait("new", "plugin", "sea_ice", "--dir", "work", "--json")
    assert (again.code, "exists already" in again.error["message"]) == (2, True)


@pytest.mark.parametrize(
    ("name", "hint"), [("Sea-Ice", "sea_ice"), ("2d", "weather"), ("class", ""), ("vision", "another"), ("../up", "up")]
)
def test_new_plugin_refuses_what_cannot_be_a_name(plait: Any, environment: Path, name: str, hint: str) -> None:
    answer = plait("new", "plugin", name, "--json")
    assert answer.code == 2
    assert hint in answer.error["hint"]
    assert not [*environment.iterdir()]


def test_doctor_finds_nothing_where_all_is_well(plait: Any) -> None:
    answer = plait("doctor", "--json")
    findings = {each["check"]: each for each in answer.json}
    assert (answer.code, findings["python"]["status"], findings["torch"]["status"]) == (0, "ok", "ok")
    assert findings["plugin meadow"]["status"] == "ok"


def test_doctor_names_what_is_broken_or_slow_and_the_remedy(
    plait: Any, broken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.cli.doctor.SLOW", 0.0)
    answer = plait("doctor", "--json")
    findings = {each["check"]: each for each in answer.json}
    assert answer.code == 1
    assert findings["plugin rotten"]["status"] == "broken"
    assert findings["plugin rotten"]["remedy"] == "pip install nothing_of_the_kind"
    assert findings["plugin sluggish"]["status"] == "warning"
    assert "PLAIT_DISABLE=sluggish" in findings["plugin sluggish"]["remedy"]


def test_doctor_names_a_missing_library(plait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.cli.doctor.requires", lambda name: ["nothing-of-the-kind>=2", "click>=999"])
    answer = plait("doctor")
    assert answer.code == 1
    assert "missing; plait needs nothing-of-the-kind>=2" in answer.out
    assert '-> pip install "nothing-of-the-kind>=2"' in answer.out
    assert "plait is made for >=999" in answer.out
