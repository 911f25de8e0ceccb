"""What does a registry find for a name, and what does it say when the name is wrong?"""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait_registry import (
    AdapterSpec,
    AmbiguousNameError,
    DatasetSpec,
    EngineSpec,
    Entry,
    Metric,
    ModelSpec,
    PlaitError,
    Plugin,
    PluginError,
    PortSpec,
    Registry,
    Spec,
    SpecError,
    TargetError,
    TaskSpec,
    TrainerSpec,
    UnknownNameError,
)
from plait_registry.errors import near


def task(name: str, **fields: Any) -> TaskSpec:
    ports: dict[str, Any] = {"accepts": {"image": "image"}, "returns": {"label": "label"}}
    return TaskSpec(name=name, summary="A task.", target="toy.task:Task", **(ports | fields))


def model(name: str, *tasks: str, **fields: Any) -> ModelSpec:
    given: dict[str, Any] = {"trainer": "gradient", "tasks": tasks or ("vision/sorting",)}
    return ModelSpec(name=name, summary="A model.", target="toy.model:Model", **(given | fields))


def plugin(distribution: str, *specs: Spec | PortSpec, name: str = "main", **fields: Any) -> Plugin:
    entries = tuple(Entry(spec, name, distribution, "1.0") for spec in specs)
    return Plugin(name, distribution, "1.0", entries=entries, **fields)


VISION = plugin(
    "plait-vision",
    task("vision/sorting", models=("timm/resnet18", "vision/cnn", "nowhere/gone")),
    model("vision/cnn"),
    model("vision/aardvark"),
    model("timm/*", in_modality="vision"),
    name="vision",
)
ACME = plugin(
    "acme", model("acme/forest", "vision/sorting", "tabular/sorting"), PortSpec(name="smell", summary="A smell.")
)
REGISTRY = Registry([VISION, ACME])


# Finding


def test_a_name_is_found_with_its_owner() -> None:
    entry = REGISTRY.model("vision/cnn")
    assert (entry.kind, entry.name, entry.modality, entry.summary) == ("model", "vision/cnn", "vision", "A model.")
    assert (entry.qualified, entry.plugin, entry.version) == ("plait-vision:vision/cnn", "vision", "1.0")
    assert (
        REGISTRY.find("model", "plait-vision:vision/cnn") == REGISTRY.find("model", "Plait_Vision:vision/cnn") == entry
    )


def test_a_family_answers_for_its_variants() -> None:
    for name in ("timm/resnet18", "timm/*", "timm/", "plait-vision:timm/resnet18"):
        assert REGISTRY.model(name).name == "timm/*"


def test_an_exact_name_wins_over_a_family_and_the_closest_family_over_a_wider_one() -> None:
    registry = Registry([plugin("a", model("t/*"), model("t/v/*"), model("t/v/x"))])
    assert [registry.model(name).name for name in ("t/v/x", "t/v/y", "t/w")] == ["t/v/x", "t/v/*", "t/*"]


def test_each_kind_has_its_own_names() -> None:
    specs = (
        DatasetSpec(name="a/x", summary="s", target="m:x", tasks=("a/x",)),
        TrainerSpec(name="x", summary="s", target="m:x"),
        EngineSpec(name="x", summary="s", target="m:x"),
        AdapterSpec(name="x", summary="s", target="m:x", source="image", returns="text"),
    )
    registry = Registry([plugin("acme", task("a/x"), *specs, PortSpec(name="x", summary="s"))])
    found = [registry.task("a/x"), registry.dataset("a/x"), registry.trainer("x"), registry.engine("x")]
    assert [entry.kind for entry in [*found, registry.port("x"), registry.adapter("x")]] == [
        "task", "dataset", "trainer", "engine", "port", "adapter",
    ]  # fmt: skip
    assert [entry.name for entry in registry.adapters_between("image", "text")] == ["x"]
    assert registry.adapters_between("text", "image") == []


def test_entries_are_listed_by_kind_then_name_and_chosen_by_modality() -> None:
    assert [entry.name for entry in REGISTRY.entries()] == [
        "vision/sorting", "acme/forest", "timm/*", "vision/aardvark", "vision/cnn", "smell",
    ]  # fmt: skip
    assert [entry.name for entry in REGISTRY.entries("model", modality="vision")] == [
        "timm/*", "vision/aardvark", "vision/cnn",
    ]  # fmt: skip


def test_models_for_a_task_are_the_recommended_ones_in_order_then_the_volunteers() -> None:
    names = [entry.name for entry in REGISTRY.models_for("vision/sorting")]
    assert names == ["timm/*", "vision/cnn", "acme/forest", "vision/aardvark"]
    assert [entry.name for entry in REGISTRY.models_for("plait-vision:vision/sorting")] == names
    with pytest.raises(UnknownNameError):
        REGISTRY.models_for("tabular/sorting")


def test_a_plugin_that_is_not_ok_contributes_nothing() -> None:
    assert Registry([replace(VISION, status="failed", reason="it broke")]).entries() == []


@given(st.permutations([VISION, ACME, plugin("plait", model("core/x")), plugin("Zeta", model("vision/cnn"))]))
def test_no_order_of_installation_changes_what_is_listed(plugins: list[Plugin]) -> None:
    registry = Registry(plugins)
    assert [each.distribution for each in registry.plugins] == ["plait", "acme", "plait-vision", "Zeta"]
    clash = [entry.distribution for entry in registry.entries("model") if entry.name == "vision/cnn"]
    assert clash == ["plait-vision", "Zeta"]


# Clashes


def test_a_name_offered_twice_stays_listed_and_is_chosen_by_distribution() -> None:
    registry = Registry([VISION, plugin("rival", model("vision/cnn"), model("timm/*"))])
    with pytest.raises(AmbiguousNameError) as caught:
        registry.model("vision/cnn")
    assert caught.value.message == (
        "model 'vision/cnn' is offered by plait-vision 1.0 (plugin 'vision') and rival 1.0 (plugin 'main')"
    )
    assert caught.value.hint == "choose one: plait-vision:vision/cnn or rival:vision/cnn"
    assert registry.model("rival:vision/cnn").distribution == "rival"
    with pytest.raises(AmbiguousNameError, match="plait-vision:timm/resnet18 or rival:timm/resnet18"):
        registry.model("timm/resnet18")


# Names that nobody offers


def unknown(registry: Registry, kind: str, name: str) -> UnknownNameError:
    with pytest.raises(UnknownNameError) as caught:
        registry.find(kind, name)
    return caught.value


def test_an_unknown_name_shows_near_names_with_owners_and_all_if_few() -> None:
    error = unknown(REGISTRY, "model", "vision/cn")
    assert error.message == "no model is named 'vision/cn'"
    assert error.hint is not None
    assert "did you mean 'vision/cnn' (plait-vision)?" in error.hint
    assert "installed: acme/forest, timm/*, vision/aardvark, vision/cnn" in error.hint
    assert error.as_json()["error"]["details"]["near"] == ["vision/cnn"]


def test_many_names_are_not_all_shown() -> None:
    registry = Registry([plugin("acme", *(model(f"toy/number-{index}") for index in range(40)))])
    assert "`plait list` shows all 40" in (unknown(registry, "model", "x/y").hint or "")


def test_a_name_of_another_kind_is_said_to_be_so() -> None:
    message = "no task is named 'vision/cnn': 'vision/cnn' is a model of plait-vision 1.0, not a task"
    assert unknown(REGISTRY, "task", "vision/cnn").message == message
    assert "'smell' is a port of acme 1.0, not an engine" in unknown(REGISTRY, "engine", "smell").message


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("nlp/text-classification", "plait-nlp"),
        ("transformers/bert", "plait-nlp"),
        ("speech/word-recognition", "plait-speech"),
        ("recommendation/next-item", "plait-recommendation"),
        ("timm/resnet18", "plait-vision"),
    ],
)
def test_a_known_package_that_is_not_installed_is_named(name: str, package: str) -> None:
    hint = unknown(Registry([ACME]), "model", name).hint or ""
    assert hint.startswith(f"pip install {package};")
    installed = Registry([plugin(package)])
    assert "pip install" not in (unknown(installed, "model", name).hint or "")


def test_a_broken_provider_is_blamed_with_its_reason_and_remedy() -> None:
    broken = Plugin(
        "vision", "plait-vision", "0.1", status="failed", reason="No module named 'timm'", hint="pip install timm"
    )
    error = unknown(Registry([broken]), "task", "vision/sorting")
    assert "plugin 'vision' of plait-vision 0.1 failed: No module named 'timm'" in error.message
    assert (error.hint or "").startswith("pip install timm")
    disabled = replace(broken, status="disabled", reason="PLAIT_DISABLE names it")
    assert "0.1 is disabled: PLAIT_DISABLE names it" in unknown(Registry([disabled]), "task", "vision/sorting").message


def test_a_strangers_broken_plugin_may_be_the_reason() -> None:
    registry = Registry([VISION, Plugin("scent", "acme-scent", "2.0", status="failed", reason="it broke")])
    assert "plugin 'scent' of acme-scent 2.0 failed: it broke" in unknown(registry, "task", "scent/naming").message
    assert "'scent' of acme-scent (failed)" in (unknown(registry, "task", "smell/naming").hint or "")


def test_a_qualified_name_of_a_distribution_that_is_absent_or_does_not_offer_it() -> None:
    assert "'nobody' is installed" in unknown(REGISTRY, "model", "nobody:vision/cnn").message
    hint = unknown(REGISTRY, "model", "acme:vision/cnn").hint or ""
    assert "'plait-vision:vision/cnn'" in hint


def test_a_kind_is_checked_too() -> None:
    with pytest.raises(UnknownNameError, match=r"no kind 'tasks'\n.*did you mean 'task'"):
        REGISTRY.entries("tasks")


NAMES = sorted({"vision/image-classification", "speech/word-recognition", "nlp/text-classification", "timm/resnet18"})


@given(st.sampled_from(NAMES), st.data())
def test_one_slip_of_a_finger_is_always_understood(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    slip = data.draw(st.sampled_from(["", "x", name[at] * 2, name[at].upper()]))
    assert near(name[:at] + slip + name[at + 1 :], NAMES)[0] == name


@given(st.text(max_size=30), st.lists(st.text(max_size=30)), st.integers(1, 5))
def test_near_names_are_few_and_real(name: str, names: list[str], most: int) -> None:
    found = near(name, names, most=most)
    assert len(found) <= most
    assert set(found) <= set(names)
    if name in names:
        assert found[0] == name


@given(st.text(max_size=40), st.sampled_from(["task", "model", "engine"]))
def test_any_text_is_found_or_refused_with_a_hint(name: str, kind: str) -> None:
    hint: str | None = "found"
    try:
        assert REGISTRY.find(kind, name).kind == kind
    except PlaitError as error:
        hint = error.hint
    assert hint


def test_case_and_a_shared_tail_are_near() -> None:
    assert near("CNN", ["cnn", "forest"]) == ["cnn"]
    assert near("some-long-modality/cnn", ["a/cnn", "b/cnn", "c/forest"]) == ["a/cnn", "b/cnn"]


# Events


def test_an_event_that_is_not_one_is_refused() -> None:
    with pytest.raises(PluginError, match="did you mean 'plait_step_logged'"):
        REGISTRY.notify("plait_step_loged")
    with pytest.raises(TypeError, match="plait_fit_ended takes run, status, not run"):
        REGISTRY.notify("plait_fit_ended", run="x")


def test_plugins_built_from_values_hear_nothing() -> None:
    assert REGISTRY.notify("plait_fit_ended", run="x", status="finished") == []


# Specs are values


def test_a_spec_is_frozen_hashable_and_picklable() -> None:
    spec = task("vision/sorting", primary_metric=("accuracy", True))
    assert spec.primary_metric == Metric("accuracy", True)
    assert isinstance(spec.primary_metric, Metric)
    assert pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec) == spec  # noqa: S301  # our own bytes
    assert len({spec, copy.deepcopy(spec)}) == 1
    with pytest.raises(TypeError, match="frozen"):
        spec.accepts["image"] = "text"  # type: ignore[index]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: task("sorting"), "starts with its modality"),
        (lambda: task("vision/x", accepts={}), "accepts must map"),
        (lambda: task("vision/x", primary_metric=("accuracy", 1)), "True or False"),
        (lambda: model("Vision/CNN"), "lower-case parts"),
        (lambda: model("vision/cnn", tasks="vision/x"), "tasks must be names"),
        (lambda: model("vision/cnn", requires="plait-vision [timm"), "requires is what pip installs"),
        (lambda: model("vision/cnn", requires=["timm"]), "requires is what pip installs"),
        (lambda: PortSpec(name="Smell", summary="s"), "lower case with hyphens"),
        (lambda: TrainerSpec(name="x", summary="two\nlines", target="a:b"), "one non-empty line"),
    ],
)
def test_a_spec_that_is_not_well_formed_says_what_was_expected(make: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make()


def test_a_port_has_no_code() -> None:
    entry = REGISTRY.port("smell")
    assert entry.location() is None
    assert entry.modality is None
    with pytest.raises(TargetError, match="no code to import"):
        entry.resolve()
