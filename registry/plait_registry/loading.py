"""Is an installed plugin fit for use, and what does it offer?"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import pluggy

from plait_registry import hookspecs
from plait_registry.entry import Entry, Plugin, article
from plait_registry.errors import PlaitError, PluginError, did_you_mean
from plait_registry.hookspecs import EVENTS, OFFERS, PROJECT
from plait_registry.specs import PLUGIN_API, PortSpec, Spec
from plait_registry.targets import blame, describe, remedy

GROUP = "plait.plugins"
_VALUE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*(?::\s*(?P<attribute>[\w.]+))?\s*(?:\[.*\])?")


class Found(NamedTuple):
    """An entry point of the group `plait.plugins`, before anything of it is imported."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def package(self) -> str:
        """The top-level package of its module."""
        return re.split(r"[^\w]", self.value, maxsplit=1)[0]


class UnfitError(PluginError):
    """The plugin may be sound, but it is written for another version of plait."""


def load_plugin(found: Found, siblings: Iterable[Plugin]) -> tuple[pluggy.PluginManager, tuple[Entry, ...]]:
    """Import a plugin, check it and collect its specs.

    Args:
        found: its entry point.
        siblings: plugins of the same distribution that are loaded; `distribution:name` must stay unique among them.

    Raises:
        UnfitError: it states another plugin API.
        PluginError: it is wrong in a way that is known here; anything else that its own code raises comes as it is.
    """
    plugin, module = _import(found)
    _check_api(plugin, module, found)
    manager = pluggy.PluginManager(PROJECT)
    manager.register(plugin, found.name)
    _check_hooks(manager, plugin)
    manager.add_hookspecs(hookspecs)
    manager.check_pending()
    specs = [spec for hook in OFFERS for spec in _offered(manager, hook, found)]
    owners = {
        (entry.kind, entry.name): f"so does plugin {each.name!r} of {each.owner}"
        for each in siblings
        for entry in each.entries
    }
    for spec in specs:
        if owner := owners.get((spec.kind, spec.name)):
            raise PluginError(f"it offers {spec.kind} {spec.name!r}, and {owner}", hint="rename one of them")
        owners[spec.kind, spec.name] = "does so twice"
    return manager, tuple(Entry(spec, found.name, found.distribution, found.version) for spec in specs)


def _import(found: Found) -> tuple[Any, Any]:
    """The object that holds the hooks, and the module that it lives in: mostly the same."""
    match = _VALUE.fullmatch(found.value)
    if match is None or not found.name:
        raise PluginError(
            f"its entry point {found.name!r} reads {found.value!r}; expected a module, such as 'my_package.plugin'",
            hint=f"mend the group {GROUP!r} in the pyproject.toml of {found.distribution}",
        )
    module = plugin = importlib.import_module(match["module"])
    for part in filter(None, (match["attribute"] or "").split(".")):
        if getattr(plugin, part, None) is None:
            raise PluginError(
                f"its entry point reads {found.value!r}, and there is no {part!r} in {_file(module)}",
                hint=did_you_mean(part, dir(plugin)) or f"name the module alone: {match['module']!r}",
            )
        plugin = getattr(plugin, part)
    return plugin, module


def _check_api(plugin: Any, module: Any, found: Found) -> None:
    stated = getattr(plugin, "plait_api", getattr(module, "plait_api", None))
    if stated is None:
        raise PluginError(
            f"it does not state its plugin API ({_file(module)})", hint=f"add `plait_api = {PLUGIN_API}` to it"
        )
    ends = stated if isinstance(stated, tuple) and len(stated) == 2 else (stated, stated)
    if any(isinstance(end, bool) or not isinstance(end, int) for end in ends) or ends[0] > ends[1]:
        raise PluginError(
            f"its plait_api is {_short(stated)} ({_file(module)})",
            hint=f"write `plait_api = {PLUGIN_API}`, or a range such as `({PLUGIN_API}, {PLUGIN_API + 1})`",
        )
    lowest, highest = ends
    if not lowest <= PLUGIN_API <= highest:
        supported = f"{lowest}" if lowest == highest else f"{lowest} to {highest}"
        behind = "plait" if lowest > PLUGIN_API else found.distribution
        raise UnfitError(
            f"it supports plugin API {supported}, and this plait has plugin API {PLUGIN_API}",
            hint=f"pip install --upgrade {behind}",
        )


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    """Refuse a hook that would never be called, or that asks for what it is not given.

    pluggy checks the same against its specifications but names neither line nor near name, so this runs before it.
    """
    menu: dict[str, Collection[str]] = {**dict.fromkeys(OFFERS, ()), **EVENTS}
    marked = set()
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            function, name = implementation.function, caller.name
            marked.add(id(function))
            if name not in menu and not implementation.optionalhook:
                raise PluginError(f"there is no hook {name!r} ({_place(function)})", hint=_near_hook(name, menu))
            given = menu.get(name, ())
            strange = [each for each in implementation.argnames if each not in given and name in menu]
            if strange:
                raise PluginError(
                    f"hook {name} is given {', '.join(given) or 'no arguments'}; it asks for {', '.join(strange)}"
                    f" ({_place(function)})",
                    hint=did_you_mean(strange[0], given) or f"def {name}({', '.join(given)})",
                )
    for name, value in getattr(plugin, "__dict__", {}).items():
        own = getattr(value, "__module__", None) == getattr(plugin, "__name__", None)
        if name.startswith("plait_") and callable(value) and own and id(value) not in marked:
            raise PluginError(
                f"function {name} is not marked @hookimpl, so it would never be called ({_place(value)})",
                hint="write @hookimpl above it" if name in menu else _near_hook(name, menu),
            )


def _offered(manager: pluggy.PluginManager, hook: str, found: Found) -> list[Spec | PortSpec]:
    """What the plugin's implementation of one hook returns (or implementations: `specname` allows several)."""
    caller = getattr(manager.hook, hook)
    functions = [each.function for each in caller.get_hookimpls() if not (each.wrapper or each.hookwrapper)]
    if not functions:
        return []
    place = _place(functions[0])
    try:
        answers = caller()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = f": {error.message}" if isinstance(error, PlaitError) else f" raised {describe(error)}"
        hint = error.hint if isinstance(error, PlaitError) else None
        raise PluginError(
            f"{hook}{said} ({blame(error, found.package) or place})",
            hint=hint or remedy(error, module=found.package, distribution=found.distribution),
        ) from error
    expected = OFFERS[hook]
    if len(answers) < len(functions):  # pluggy leaves out a None, and so would we: nothing would be offered
        answers = [None]
    offered: list[Spec | PortSpec] = []
    for answer in answers:
        if not isinstance(answer, list):
            kind = type(answer).__name__
            raise PluginError(
                f"{hook} returned {'None' if answer is None else f'{article(kind)} {kind}'};"
                f" expected a list of {expected.__name__} ({place})",
                hint=f"return [{expected.__name__}(...)]",
            )
        for index, item in enumerate(answer):
            if not isinstance(item, expected):
                right = next((other for other, spec in OFFERS.items() if isinstance(item, spec)), None)
                raise PluginError(
                    f"{hook} returned {_short(item)} as item {index}; expected {expected.__name__} ({place})",
                    hint=f"return it from {right}" if right else "hooks return specs, not classes or names",
                )
        offered += answer
    return offered


def _near_hook(name: str, menu: Collection[str]) -> str:
    return did_you_mean(name, menu) or f"the hooks are {', '.join(menu)}; give a helper another prefix than plait_"


def _place(function: Any) -> str:
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _file(module: Any) -> str:
    return str(getattr(module, "__file__", None) or getattr(module, "__name__", None) or repr(module))


def _short(item: object) -> str:
    """What an item is, for a message: a spec by its name, anything else by its type and a glance at it."""
    if isinstance(item, Spec | PortSpec):
        return f"{type(item).__name__} {item.name!r}"
    try:
        text = repr(item)
    except Exception:  # a stranger's repr may raise; the item's type still says what it is
        text = "?"
    return f"{text if len(text) <= 80 else text[:79] + '…'} ({type(item).__name__})"
