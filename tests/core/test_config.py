"""Recipes: where values come from, and how every mistake is named at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.config import Recipe, resolve
from plait.errors import RecipeError, UnknownNameError
from plait.layers import Layer, environment_layer, options_layer, parse_value, read_recipe
from tests.toys import Means, Net, Points

REGISTRY = plait.registry(Points, Net, Means)


def recipe(values: dict[str, Any], *more: Layer) -> Recipe:
    return resolve([Layer("test", {"task": "toy/points", **values}), *more], REGISTRY)


def complaints(values: dict[str, Any], *more: Layer) -> dict[str, str]:
    with pytest.raises(RecipeError) as raised:
        recipe(values, *more)
    assert isinstance(raised.value.details, list)
    return {each["path"]: f"{each['message']} {each.get('hint', '')}".strip() for each in raised.value.details}


def test_later_sources_win_and_each_value_knows_its_own(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    file.write_text("task: toy/points\ntrainer:\n  epochs: 3\n  batch_size: 8\nseed: 5\n")
    found = resolve(
        [
            read_recipe(file),
            environment_layer({"PLAIT_TRAINER__BATCH_SIZE": "4", "PLAIT_SEED": "6", "PLAIT_PLUGINS": "x"}),
            options_layer(["trainer.learning_rate=1e-2"], {"seed": 7, "engine.processes": None}),
        ],
        REGISTRY,
    )
    trainer: Any = found.trainer
    assert (trainer.epochs, trainer.batch_size, trainer.learning_rate, found.seed) == (3, 4, 0.01, 7)
    assert found.origins["trainer.epochs"] == "points.yaml:3"
    assert found.origins["trainer.batch_size"] == "environment"
    assert found.origins["seed"] == "--set"
    assert found.origins["model.name"] == "default"


def test_the_saved_recipe_runs_the_same_again() -> None:
    first = recipe({"model": "toy/net", "trainer": {"epochs": 3, "groups": {"head": {"learning_rate_scale": 2}}}})
    text = yaml.safe_dump(first.as_json())
    again = resolve([Layer("recipe.yaml", yaml.safe_load(text))], REGISTRY)
    assert again.as_json() == first.as_json()


def test_a_run_that_is_older_than_an_option_is_resumed_with_its_default() -> None:
    now = recipe({"trainer": {"epochs": 3}})
    older = now.as_json()
    del older["trainer"]["momentum"], older["engine"]["compile"]
    now.refuse_changes(older)
    older["trainer"]["epochs"] = 4
    with pytest.raises(RecipeError, match=r"trainer\.epochs: the run has 4, now 3"):
        now.refuse_changes(older)


def test_short_forms() -> None:
    found = recipe({"model": "toy/means", "data": "some/folder", "output": "runs/x", "engine": "local"})
    assert found.model_options.name == "toy/means"
    assert found.data.source == "some/folder"
    assert found.output.directory == "runs/x"
    assert found.engine.name == "local"


def test_every_mistake_is_named_at_once_with_path_and_near_name() -> None:
    found = complaints(
        {
            "trianer": {},
            "model": {"hiden": 3},
            "trainer": {"epochs": "many", "lr": 0.1, "groups": {"head": {"learning_rate_scal": 2}}},
            "engine": {"batch_size": 3, "precision": "fp8"},
            "data": {"feilds": {}},
            "seed": -1,
        }
    )
    assert found["model.hiden"] == "toy/net (this-program 0) has no such option did you mean 'hidden'?"
    assert "unable to parse string as an integer (got 'many')" in found["trainer.epochs"]
    assert found["trainer.lr"] == "the gradient trainer has no such option did you mean 'learning_rate'?"
    assert "did you mean 'learning_rate_scale'?" in found["trainer.groups.head.learning_rate_scal"]
    assert "did you mean 'trainer.batch_size'?" in found["engine.batch_size"]
    assert "'auto', 'fp32', 'bf16' or 'fp16' (got 'fp8')" in found["engine.precision"]
    assert "did you mean 'fields'?" in found["data.feilds"]
    assert "seed" in found
    assert found["trianer"] == "the recipe has no such option did you mean 'trainer'?"


def test_a_list_written_without_quotes_says_how_to_write_one() -> None:
    found = complaints({}, options_layer(["model.freeze=[yes,no]"], {}))
    assert """write a list as JSON: '["a", "b"]'""" in found["model.freeze"]


def test_a_misspelt_key_is_named_before_what_it_leaves_out() -> None:
    assert list(complaints({"task": None, "taks": "toy/points"})) == ["taks"]


def test_unknown_blocks_and_blocks_of_the_wrong_type() -> None:
    found = complaints({"trianer": {"epochs": 3}, "engine": 3})
    assert found == {
        "trianer": "the recipe has no such option did you mean 'trainer'?",
        "engine": "expected a mapping of options, not 3",
    }


def test_an_origin_is_named_beside_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    file.write_text("task: toy/points\ntrainer:\n  epohcs: 3\n")
    with pytest.raises(RecipeError, match=r"trainer\.epohcs: .* \[points\.yaml:3\]"):
        resolve([read_recipe(file)], REGISTRY)
    environment = environment_layer({"PLAIT_TRAINER__EPOHCS": "3"})
    with pytest.raises(RecipeError, match=r"trainer\.epohcs: .* \[environment\]"):
        resolve([Layer("argument", {"task": "toy/points"}), environment], REGISTRY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task: a\ntrainer:\n  epochs: 3\n  epochs: 4\n",
            r":4: trainer\.epochs is given twice; .* line 3",
        ),
        ("task: a\ntask: b\n", r":2: task is given twice"),
        ("task: [a\n", r":2: not valid YAML"),
        ("- a\n", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("task: !!python/object/apply:os.system [ls]\n", r"not valid YAML: could not determine a constructor"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_recipe(file)


def test_a_missing_recipe_file_has_a_near_name(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").touch()
    with pytest.raises(RecipeError, match="no such recipe file") as raised:
        read_recipe(tmp_path / "digit.yaml")
    assert "digits.yaml" in str(raised.value.hint)


def test_names_are_checked_before_anything_is_imported() -> None:
    with pytest.raises(UnknownNameError, match="toy/netz"):
        recipe({"model": "toy/netz"})
    with pytest.raises(UnknownNameError, match="lokal"):
        recipe({"engine": "lokal"})
    with pytest.raises(RecipeError, match=r"model vision/cnn does not serve toy/points") as raised:
        recipe({"model": "vision/cnn"})
    assert "toy/net, toy/means" in str(raised.value.hint)
    with pytest.raises(RecipeError, match="names no task"):
        resolve([], REGISTRY)


def test_a_family_member_that_does_not_exist_has_a_near_name() -> None:
    with pytest.raises(UnknownNameError, match=r"'timm/resnet81' is not a member of the family timm/\*") as raised:
        resolve([Layer("argument", {"task": "vision/image-classification", "model": "timm/resnet81"})], REGISTRY)
    assert "timm/resnet18" in str(raised.value.hint)


def test_set_needs_a_value() -> None:
    with pytest.raises(RecipeError, match=r"write it as path=value"):
        options_layer(["trainer.epochs"])


@given(st.one_of(st.integers(), st.booleans(), st.none(), st.text(), st.lists(st.integers())))
def test_values_are_json_where_they_can_be_and_text_otherwise(value: Any) -> None:
    import json

    assert parse_value(json.dumps(value)) == value
    assert parse_value("timm/resnet18") == "timm/resnet18"
