"""What becomes of each plugin, sound or broken, and of those beside it?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.registry.throwaway import HEADER, hook, install, model, python

GOOD = HEADER + hook("plait_models", model("toy/good"))

# What is wrong: (source of plugin.py, words of the reason, words of the hint); {site} stands for the folder.
BROKEN: dict[str, tuple[str, list[str], list[str]]] = {
    "raises": ("print('half way')\n1 / 0\n", ["ZeroDivisionError", "raises/plugin.py:2)"], []),
    "exits": ("import sys\nsys.exit(3)\n", ["sys.exit(3)", "exits/plugin.py:2)"], []),
    "exits-hard": ("raise GeneratorExit\n", ["GeneratorExit", "exits_hard/plugin.py:1)"], []),
    "missing-module": (
        "import sklearn.tree\n",
        ["No module named 'sklearn'", "missing_module/plugin.py:1)"],
        ["pip install scikit-learn"],
    ),
    "own-module": (
        "from own_module import absent_part\nimport own_module.absent\n",
        ["absent_part", "own_module/plugin.py:1)"],
        ["pip install --force-reinstall own-module"],
    ),
    "newer-plait": (
        "from plait_registry import HologramSpec\n",
        ["HologramSpec", "newer_plait/plugin.py:1)"],
        ["pip install --upgrade plait"],
    ),
    "misspelt-import": (
        "from plait_registry import TaskSpeck\n",
        ["TaskSpeck", "misspelt_import/plugin.py:1)"],
        ["or did you mean 'TaskSpec'"],
    ),
    "syntax": ("x = 1\ndef broken(:\n", ["SyntaxError", "syntax/plugin.py:2)"], []),
    "misspelt": (
        HEADER + hook("plait_modles", model("toy/a")),
        ["no hook 'plait_modles'", "misspelt/plugin.py:5)"],
        ["did you mean 'plait_models'"],
    ),
    "unmarked": (
        HEADER + "def plait_models():\n    return []\n",
        ["plait_models is not marked @hookimpl", "unmarked/plugin.py:5)"],
        ["write @hookimpl above it"],
    ),
    "unmarked-misspelt": (
        HEADER + "def plait_modles():\n    return []\n",
        ["plait_modles is not marked @hookimpl"],
        ["did you mean 'plait_models'"],
    ),
    "arguments": (
        HEADER + "@hookimpl\ndef plait_step_logged(run, metric):\n    pass\n",
        ["plait_step_logged is given run, step, metrics; it asks for metric", "arguments/plugin.py:5)"],
        ["did you mean 'metrics'"],
    ),
    "offer-arguments": (
        HEADER + "@hookimpl\ndef plait_models(config):\n    return []\n",
        ["plait_models is given no arguments; it asks for config"],
        ["def plait_models()"],
    ),
    "hook-raises": (
        HEADER + "@hookimpl\ndef plait_models():\n    print('counting')\n    return {}['x']\n",
        ["plait_models raised KeyError: 'x'", "hook_raises/plugin.py:8)"],
        [],
    ),
    "hook-exits": (
        HEADER + "@hookimpl\ndef plait_models():\n    exit_ = SystemExit(1)\n    raise exit_\n",
        ["sys.exit(1)"],
        [],
    ),
    "no-list": (
        HEADER + "@hookimpl\ndef plait_models():\n    return {'toy/a': 1}\n",
        ["plait_models returned a dict; expected a list of ModelSpec", "no_list/plugin.py:5)"],
        ["return [ModelSpec(...)]"],
    ),
    "returns-none": (
        HEADER + "@hookimpl\ndef plait_models():\n    [1]\n",
        ["plait_models returned None; expected a list of ModelSpec"],
        ["return [ModelSpec(...)]"],
    ),
    "wrong-type": (
        HEADER + hook("plait_models", model("toy/a"), "PortSpec(name='smell', summary='s')"),
        ["plait_models returned PortSpec 'smell' as item 1; expected ModelSpec"],
        ["return it from plait_ports"],
    ),
    "a-class": (
        HEADER + "class Forest: ...\n" + hook("plait_models", "Forest"),
        ["as item 0; expected ModelSpec"],
        ["specs, not classes"],
    ),
    "twice": (
        HEADER + hook("plait_models", model("toy/a"), model("toy/a")),
        ["model 'toy/a', and does so twice"],
        ["rename"],
    ),
    "bad-name": (
        HEADER + hook("plait_models", model("Toy/Ä")),
        ["ModelSpec 'Toy/Ä': a name is lower-case", "bad_name/plugin.py:7)"],
        [],
    ),
    "spec-at-import": (
        HEADER + model("toy/a", target="'no_colon'"),
        ["target must read", "spec_at_import/plugin.py:5)"],
        [],
    ),
    "unstated": ("x = 1\n", ["does not state its plugin API", "unstated/plugin.py"], ["add `plait_api = 1`"]),
    "odd-api": ("plait_api = 'one'\n", ["plait_api is 'one' (str)"], ["write `plait_api = 1`"]),
    "backward-api": ("plait_api = (3, 1)\n", ["plait_api is (3, 1)"], []),
    "mute-error": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute\n",
        ["Mute", "mute_error/plugin.py:4)"],
        [],
    ),
    "long-error": ("raise RuntimeError('line\\n' * 1000)\n", ["RuntimeError: line line", "…"], []),
    "noisy": ("import sys\nsys.stdout.close()\nsys.stdout = None\nraise OSError('noise')\n", ["OSError: noise"], []),
}


@pytest.fixture(scope="session")
def beside_broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A good plugin, installed before and after every broken one, discovered once."""
    site = tmp_path_factory.mktemp("site")
    install(site, "aaa-good", source=GOOD, files={"helper.py": "raise AssertionError"})
    install(site, "zzz-good", source=HEADER + hook("plait_models", model("toy/other")))
    for name, (source, _, _) in BROKEN.items():
        install(site, name, version="0.3", source=source)
    install(site, "malformed", points={"bad": "not a module!"})
    install(site, "nameless", points={"": "nameless.plugin"}, source=GOOD)
    install(site, "no-such-module", points={"lost": "no_such_module.plugin_"})
    install(
        site, "no-such-attribute", points={"lost": "no_such_attribute.plugin:plugn"}, source=HEADER + "plugin = 1\n"
    )
    install(site, "too-new", source="plait_api = (2, 3)\n")
    install(site, "too-old", source="plait_api = 0\n")
    alien = site / "alien-1.0.dist-info"
    alien.mkdir()
    (alien / "METADATA").write_bytes(b"\xff\xfe")
    (alien / "entry_points.txt").write_bytes(b"[no\xff equals sign\nat all")
    return python(site, "")  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_fails_with_its_line_and_the_remedy(beside_broken: dict[str, Any], name: str) -> None:
    _, reason, hint = BROKEN[name]
    plugin = beside_broken["plugins"][f"{name}:{name.replace('-', '_')}"]
    assert (plugin["status"], plugin["provides"], plugin["version"]) == ("failed", [], "0.3")
    for words in reason:
        assert words in plugin["reason"]
    for words in hint:
        assert words in plugin["hint"]
    assert "\n" not in plugin["reason"]
    assert plugin["seconds"] > 0


@pytest.mark.parametrize(
    ("key", "status", "reason", "hint"),
    [
        ("malformed:bad", "failed", "reads 'not a module!'", "pyproject.toml of malformed"),
        ("nameless:", "failed", "entry point ''", "pyproject.toml of nameless"),
        (
            "no-such-module:lost",
            "failed",
            "No module named 'no_such_module.plugin_'",
            "--force-reinstall no-such-module",
        ),
        ("no-such-attribute:lost", "failed", "no 'plugn'", "did you mean 'plugin'"),
        ("too-new:too_new", "disabled", "API 2 to 3, and this plait has plugin API 1", "pip install --upgrade plait"),
        ("too-old:too_old", "disabled", "API 0, and this plait has plugin API 1", "pip install --upgrade too-old"),
    ],
)
def test_an_entry_point_or_an_api_that_does_not_fit(
    beside_broken: dict[str, Any], key: str, status: str, reason: str, hint: str
) -> None:
    plugin = beside_broken["plugins"][key]
    assert plugin["status"] == status
    assert reason in plugin["reason"]
    assert hint in plugin["hint"]


def test_good_plugins_beside_broken_ones_are_untouched(beside_broken: dict[str, Any]) -> None:
    assert beside_broken["entries"] == [["model", "aaa-good:toy/good"], ["model", "zzz-good:toy/other"]]
    assert beside_broken["plugins"]["aaa-good:aaa_good"]["status"] == "ok"


def test_what_a_plugin_prints_is_kept_and_never_reaches_stdout(beside_broken: dict[str, Any]) -> None:
    # That the report parsed as JSON says that nothing else was printed.
    assert beside_broken["plugins"]["raises:raises"]["output"] == "half way\n"
    assert beside_broken["plugins"]["hook-raises:hook_raises"]["output"] == "counting\n"


def test_a_failed_plugin_leaves_no_module_behind(beside_broken: dict[str, Any]) -> None:
    left = {module.partition(".")[0] for module in beside_broken["modules"]}
    assert not left & {name.replace("-", "_") for name in BROKEN}
    assert "aaa_good.plugin" in beside_broken["modules"]


def test_discovery_imports_no_implementation(beside_broken: dict[str, Any]) -> None:
    assert "aaa_good.helper" not in beside_broken["modules"]


def test_discovery_imports_only_what_is_light(tmp_path: Path) -> None:
    install(tmp_path, "light", source=GOOD)
    modules = python(tmp_path, "")["modules"]
    assert "light.plugin" in modules
    assert not {"torch", "numpy", "pydantic", "timm", "click", "rich", "yaml"} & set(modules)
    assert not {"difflib", "email.parser", "subprocess", "logging", "asyncio"} & set(modules)  # 2 to 20 ms each


def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    install(
        tmp_path, "meddler", source=GOOD + "import sys, warnings\nwarnings.simplefilter('ignore')\nsys.stdout = None\n"
    )
    install(tmp_path, "vandal", source="import sys\nsys.path.insert(0, '/nowhere')\nsys.stderr = None\n1 / 0\n")
    code = "import sys, warnings; before = (sys.stdout, sys.stderr, list(warnings.filters), list(sys.path))\n"
    code += "from plait_registry import Registry; Registry.discover()\n"
    code += "more = before == (sys.stdout, sys.stderr, list(warnings.filters), list(sys.path))\n"
    assert python(tmp_path, code)["more"] is True


def test_stdout_is_spared_from_c_code_children_and_held_handlers(tmp_path: Path) -> None:
    loud = """
    import logging, os, subprocess, sys, warnings
    logging.basicConfig(stream=sys.stdout)
    os.write(1, b"from C")
    os.system("echo from a child")
    print("to the original", file=sys.__stdout__)
    print("plainly"); sys.stdout.buffer.write(b"bytes\\n"); warnings.warn("a warning")
    """
    install(tmp_path, "loud", source=HEADER + "".join(line[4:] + "\n" for line in loud.splitlines()))
    code = "print('before')\nfrom plait_registry import Registry; r = Registry.discover(); import logging\n"
    code += "logging.warning('later'); print(r.plugins[0].status); print(repr(r.plugins[0].output))"
    before, status, output = python(tmp_path, code, report=False).splitlines()
    assert (before, status) == ("before", "ok")
    assert "plainly" in output
    assert "bytes" in output
    assert "a warning" in output


def test_keyboard_interrupt_passes(tmp_path: Path) -> None:
    install(tmp_path, "interrupted", source="raise KeyboardInterrupt\n")
    code = "from plait_registry import Registry\ntry:\n    Registry.discover()\nexcept KeyboardInterrupt:\n"
    assert python(tmp_path, code + "    print('passed')", report=False) == "passed\n"


def test_two_distributions_may_use_one_entry_point_name(tmp_path: Path) -> None:
    for distribution in ("acme", "rival"):
        source = HEADER + hook("plait_models", model(f"toy/{distribution}"))
        install(tmp_path, distribution, source=source, points={"tool": f"{distribution}.plugin"})
    found = python(tmp_path, "")
    assert [plugin["status"] for plugin in found["plugins"].values()] == ["ok", "ok"]
    assert found["entries"] == [["model", "acme:toy/acme"], ["model", "rival:toy/rival"]]


def test_one_distribution_may_not_offer_a_name_twice(tmp_path: Path) -> None:
    install(tmp_path, "acme", source=GOOD, points={"first": "acme.plugin", "second": "acme.plugin"})
    plugins = python(tmp_path, "")["plugins"]
    assert plugins["acme:first"]["status"] == "ok"
    assert "so does plugin 'first' of acme 1.0" in plugins["acme:second"]["reason"]


def test_a_distribution_on_the_path_twice_counts_once(tmp_path: Path) -> None:
    install(tmp_path, "acme", version="2.0", source=GOOD)
    install(tmp_path / "older", "Acme", version="1.0", source="1 / 0")
    code = f"import sys; sys.path.append({str(tmp_path / 'older')!r})\n"
    assert {key: each["version"] for key, each in python(tmp_path, code)["plugins"].items()} == {"acme:acme": "2.0"}


def test_an_object_or_a_class_may_hold_the_hooks(tmp_path: Path) -> None:
    source = (
        HEADER
        + f"class Tools:\n    @hookimpl\n    def plait_models(self):\n        return [{model('toy/a')}]\n"
        + "tools = Tools()\n"
    )
    install(tmp_path, "acme", source=source, points={"tools": "acme.plugin:tools"})
    assert python(tmp_path, "")["entries"] == [["model", "acme:toy/a"]]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("three")
    for distribution, name in (("plait", "core"), ("acme", "tool"), ("My_Rival", "tool")):
        source = HEADER + hook("plait_models", model(f"toy/{name}"))
        install(site, distribution, source=source, points={name: f"{distribution.lower()}.plugin"})
    return site


@pytest.mark.parametrize(
    ("environment", "loaded"),
    [
        ({}, ["plait:core", "acme:tool", "My_Rival:tool"]),
        ({"PLAIT_PLUGINS": "acme"}, ["plait:core", "acme:tool"]),
        ({"PLAIT_PLUGINS": "tool"}, ["plait:core", "acme:tool", "My_Rival:tool"]),
        ({"PLAIT_PLUGINS": " my-rival:tool , x"}, ["plait:core", "My_Rival:tool"]),
        ({"PLAIT_PLUGINS": ""}, ["plait:core", "acme:tool", "My_Rival:tool"]),
        ({"PLAIT_DISABLE": "my.rival"}, ["plait:core", "acme:tool"]),
        ({"PLAIT_DISABLE": "*"}, ["plait:core"]),
        ({"PLAIT_DISABLE": "core,plait"}, ["plait:core", "acme:tool", "My_Rival:tool"]),
        ({"PLAIT_PLUGINS": "acme", "PLAIT_DISABLE": "acme"}, ["plait:core"]),
    ],
)
def test_allow_and_block_lists_choose_and_core_stays(
    three: Path, environment: dict[str, str], loaded: list[str]
) -> None:
    found = python(three, "", environment=environment)
    assert [key for key, plugin in found["plugins"].items() if plugin["status"] == "ok"] == loaded
    for plugin in found["plugins"].values():
        assert plugin["status"] == "ok" or any(name in plugin["reason"] for name in environment)
    assert ("acme.plugin" in found["modules"]) == ("acme:tool" in loaded)  # what is switched off is not even imported


def test_a_misspelt_name_in_the_lists_is_noted(three: Path) -> None:
    [note] = python(three, "", environment={"PLAIT_DISABLE": "acmee"})["notes"]
    assert note == "PLAIT_DISABLE names 'acmee', and no installed plugin is called so; did you mean 'acme'?"


def test_the_order_of_installation_changes_nothing(tmp_path: Path) -> None:
    offers = {"bravo": "toy/a", "alpha": "toy/a", "charlie": "toy/b"}
    seen = []
    for index, order in enumerate(itertools.islice(itertools.permutations(offers), 0, 6, 2)):
        folders = [tmp_path / str(index) / name for name in order]
        for folder, name in zip(folders, order, strict=True):
            install(folder, name, source=HEADER + hook("plait_models", model(offers[name])))
        (tmp_path / str(index)).mkdir(exist_ok=True)
        found = python(tmp_path / str(index), f"import sys; sys.path[1:1] = {[str(each) for each in folders]}\n")
        seen.append((list(found["plugins"]), found["entries"]))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1] == [["model", "alpha:toy/a"], ["model", "bravo:toy/a"], ["model", "charlie:toy/b"]]


def test_a_tracker_hears_events_and_its_failure_stops_nobody(tmp_path: Path) -> None:
    install(
        tmp_path,
        "bad-tracker",
        version="0.4",
        source=HEADER + "@hookimpl\ndef plait_step_logged(step):\n    print('noise')\n    raise SystemExit(step)\n",
    )
    install(
        tmp_path,
        "good-tracker",
        source=HEADER
        + "heard = []\n@hookimpl\ndef plait_step_logged(metrics, step):\n    heard.append([step, metrics])\n",
    )
    code = """
from pathlib import Path
from plait_registry import PlaitError, Registry
registry = Registry.discover()
more = [registry.notify("plait_step_logged", run=Path("runs/x"), step=7, metrics={"loss": 0.5})]
import good_tracker.plugin
more += [good_tracker.plugin.heard, registry.notify("plait_fit_ended", run=Path("x"), status="finished")]
"""
    troubles, heard, quiet = python(tmp_path, code)["more"]
    assert heard == [[7, {"loss": 0.5}]]
    assert quiet == []
    [trouble] = troubles
    assert trouble.startswith(
        "plugin 'bad_tracker' of bad-tracker 0.4: its hook plait_step_logged raised SystemExit: it called sys.exit(7)"
    )
    assert trouble.endswith("bad_tracker/plugin.py:8)")


Resolve = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def resolve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `resolve` and `location` say of each model of a plugin whose targets are of many kinds."""
    site = tmp_path_factory.mktemp("targets")
    targets = {
        "sound": "acme.sound:Sound",
        "reexported": "acme.api:Renamed",
        "deep": "acme.parts.deep:Deep",
        "raises": "acme.raises:Thing",
        "needs": "acme.needs:Thing",
        "exits": "acme.exits:Thing",
        "misspelt": "acme.sound:Soudn",
        "absent": "acme.absent:Thing",
        "foreign": "no_such_library.models:Thing",
    }
    specs = [model(f"toy/{name}", target=repr(target)) for name, target in targets.items()]
    data = (
        "DatasetSpec(name='toy/data', summary='s', target='acme.needs:Thing', tasks=('toy/a',), requires='acme[data]')"
    )
    extra = (
        "ModelSpec(name='toy/extra', summary='s', target='acme.{}:Thing', tasks=('toy/a',), trainer=None,"
        " requires='acme[net]')"
    )
    specs += [extra.format("needs"), extra.replace("toy/extra", "toy/own").format("absent")]
    package = install(
        site,
        "acme",
        source=HEADER
        + hook("plait_models", *specs)
        + hook("plait_datasets", data)
        + hook("plait_ports", "PortSpec(name='smell', summary='s')"),
        files={
            "sound.py": "import sys\n\n\ntry:\n    class Sound:\n        pass\nfinally:\n    pass\n",
            "api.py": "from .sound import Sound as Renamed\n",
            "raises.py": "\ndef go():\n    raise ValueError('no')\ngo()\n",
            "needs.py": "import hologram\n",
            "exits.py": "raise SystemExit(1)\n",
        },
    )
    (site / package / "parts").mkdir()
    (site / package / "parts" / "__init__.py").write_text("raise AssertionError('nobody asked for it')\n")
    (site / package / "parts" / "deep.py").write_text("Deep = object()\n")
    code = """
import sys
from plait_registry import Registry, TargetError
registry = Registry.discover()
more = {}
for entry in registry.entries():
    place = entry.location()
    more[entry.name] = {"location": place and [place.module, place.file, place.line], "kind": entry.kind}
more["imported"] = sorted(name for name in sys.modules if name.startswith("acme"))
for entry in registry.entries():
    try:
        more[entry.name]["value"] = repr(entry.resolve())
    except TargetError as error:
        more[entry.name] |= {"error": error.message, "hint": error.hint}
"""
    return python(site, code)["more"]  # type: ignore[no-any-return]


def test_a_location_is_found_without_importing(resolve: dict[str, Any]) -> None:
    assert resolve["imported"] == ["acme", "acme.plugin"]
    for name, ending, line in [
        ("sound", "acme/sound.py", 5),
        ("reexported", "acme/sound.py", 5),
        ("deep", "deep.py", 1),
    ]:
        _, file, found = resolve[f"toy/{name}"]["location"]
        assert (file.endswith(ending), found) == (True, line)
    assert resolve["toy/reexported"]["location"][0] == "acme.sound"
    assert resolve["toy/misspelt"]["location"][2] is None
    assert resolve["toy/absent"]["location"] is resolve["smell"]["location"] is None


def test_a_target_is_imported_when_it_is_resolved(resolve: dict[str, Any]) -> None:
    assert resolve["toy/sound"]["value"] == resolve["toy/reexported"]["value"] == "<class 'acme.sound.Sound'>"


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("toy/raises", ["ValueError: no", "acme/raises.py:3)"], None),
        ("toy/needs", ["No module named 'hologram'", "acme/needs.py:1)"], "pip install hologram"),
        ("toy/exits", ["sys.exit(1)", "acme/exits.py:1)"], None),
        ("toy/misspelt", ["'Soudn'", "acme/sound.py)"], "did you mean 'Sound'?"),
        ("toy/absent", ["No module named 'acme.absent'"], "pip install --force-reinstall acme"),
        ("toy/foreign", ["No module named 'no_such_library'"], "pip install"),
        ("toy/extra", ["No module named 'hologram'"], 'pip install "acme[net]"'),
        ("toy/own", ["No module named 'acme.absent'"], "pip install --force-reinstall acme"),
        ("toy/data", ["No module named 'hologram'"], 'pip install "acme[data]"'),
        ("smell", ["it has no code"], None),
    ],
)
def test_a_target_that_does_not_import_names_plugin_line_and_remedy(
    resolve: dict[str, Any], name: str, said: list[str], hint: str | None
) -> None:
    entry = resolve[name]
    for words in [*said, f"{entry['kind']} {name!r}", "acme 1.0"]:
        assert words in entry["error"]
    assert entry["hint"] is None if hint is None else entry["hint"].startswith(hint)
