"""Which plugin offers a name, and what should its reader know when none does, or two do?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

from plait_registry.entry import Entry, Plugin, article, normalised, plugin_order
from plait_registry.errors import AmbiguousNameError, PluginError, UnknownNameError, did_you_mean, near
from plait_registry.hookspecs import EVENTS, OFFERS
from plait_registry.specs import AdapterSpec, ModelSpec, TaskSpec
from plait_registry.targets import blame, describe

KINDS: tuple[str, ...] = tuple(spec.kind for spec in OFFERS.values())
"""What an entry can be, in the order in which entries are listed: "task", "model", "dataset", ..."""

PROVIDERS = {
    "nlp": "plait-nlp",
    "transformers": "plait-nlp",
    "vision": "plait-vision",
    "timm": "plait-vision",
    "speech": "plait-speech",
    "recommendation": "plait-recommendation",
}
"""The distribution that a name's first part points to, for the line `pip install ...` where it is absent."""

_FEW = 12  # names that still read well in one error message


class Registry:
    """Every plugin and what it offers, as a value: build one, look names up, pass it on. It knows no implementation.

    Args:
        plugins: in any order; what is listed and found does not depend on it.
        notes: what the reader of `plait plugins` should know besides, such as a misspelt name in PLAIT_DISABLE.
    """

    def __init__(self, plugins: Sequence[Plugin], *, notes: Sequence[str] = ()) -> None:
        self.plugins = tuple(sorted(plugins, key=lambda each: plugin_order(each.distribution, each.name)))
        self.notes = tuple(notes)
        entries = [entry for plugin in self.plugins if plugin.status == "ok" for entry in plugin.entries]
        entries.sort(
            key=lambda entry: (KINDS.index(entry.kind), entry.name, normalised(entry.distribution), entry.plugin)
        )
        self._entries = tuple(entries)
        self._named: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            self._named.setdefault((entry.kind, entry.name), []).append(entry)

    @classmethod
    def discover(cls) -> Registry:
        """Load every installed plugin, each in isolation; the environment's PLAIT_PLUGINS and PLAIT_DISABLE choose."""
        from plait_registry.discovery import load_plugins  # importlib.metadata costs 20 ms; a built registry needs none

        plugins, notes = load_plugins(os.environ)
        return cls(plugins, notes=notes)

    def __repr__(self) -> str:
        return f"<Registry of {len(self.plugins)} plugins with {len(self._entries)} entries>"

    def entries(self, kind: str | None = None, *, modality: str | None = None) -> list[Entry]:
        """What is offered, ordered by kind, name and distribution; installing something else moves nothing."""
        if kind is not None:
            _check_kind(kind)
        return [
            entry
            for entry in self._entries
            if kind in (None, entry.kind) and (modality is None or entry.modality == modality)
        ]

    def find(self, kind: str, name: str) -> Entry:
        """The entry of that name: "vision/cnn", "plait-vision:vision/cnn", or a family's variant ("timm/resnet18").

        Raises:
            AmbiguousNameError: two distributions offer it.
            UnknownNameError: none does; the error says what is near, what to install, or which plugin is broken.
        """
        _check_kind(kind)
        found = self._matches(kind, name)
        if not found:
            raise self._unknown(kind, name)
        if len(found) > 1:
            raise _ambiguous(kind, name, found)
        return found[0]

    def task(self, name: str) -> Entry:
        return self.find("task", name)

    def model(self, name: str) -> Entry:
        return self.find("model", name)

    def dataset(self, name: str) -> Entry:
        return self.find("dataset", name)

    def trainer(self, name: str) -> Entry:
        return self.find("trainer", name)

    def engine(self, name: str) -> Entry:
        return self.find("engine", name)

    def port(self, name: str) -> Entry:
        return self.find("port", name)

    def adapter(self, name: str) -> Entry:
        return self.find("adapter", name)

    def models_for(self, task: str) -> list[Entry]:
        """The models that serve a task: those its author recommends, in that order, then those that name the task."""
        entry = self.task(task)
        assert isinstance(entry.spec, TaskSpec)
        recommended = [model for name in entry.spec.models for model in self._matches("model", name)]
        volunteers = [
            model
            for model in self.entries("model")
            if isinstance(model.spec, ModelSpec) and {entry.name, entry.qualified} & set(model.spec.tasks)
        ]
        return list({(model.qualified, model.plugin): model for model in (*recommended, *volunteers)}.values())

    def adapters_between(self, source: str, returns: str) -> list[Entry]:
        """The adapters that take the port type `source` and give `returns`."""
        return [
            entry
            for entry in self.entries("adapter")
            if isinstance(entry.spec, AdapterSpec) and (entry.spec.source, entry.spec.returns) == (source, returns)
        ]

    def notify(self, event: str, /, **payload: Any) -> list[str]:
        """Tell every plugin that a lifecycle event happened; a hook that raises is reported and the rest go on.

        Args:
            event: the hook's name, such as "plait_step_logged"; `payload` gives exactly its arguments.

        Returns:
            One warning for each hook that raised: the plugin, its version, the hook, the error and its line.
        """
        if event not in EVENTS:
            raise PluginError(f"there is no lifecycle event {event!r}", hint=did_you_mean(event, EVENTS))
        if set(payload) != set(EVENTS[event]):
            raise TypeError(f"{event} takes {', '.join(EVENTS[event])}, not {', '.join(payload) or 'nothing'}")
        troubles = []
        for plugin in self.plugins:
            hook = getattr(plugin._manager.hook, event) if plugin.status == "ok" and plugin._manager else None
            implementations = hook.get_hookimpls() if hook is not None else []
            if hook is None or not implementations:
                continue
            try:
                with redirect_stdout(sys.stderr):  # stdout belongs to the command's own answer, often JSON
                    hook(**payload)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                place = blame(error, getattr(implementations[0].function, "__module__", None) or "")
                where = f" ({place})" if place else ""
                troubles.append(f"{plugin}: its hook {event} raised {describe(error)}{where}")
        return troubles

    def _matches(self, kind: str, name: str) -> list[Entry]:
        """The entries that `name` may mean: of the exact name, else of the closest family around it."""
        distribution, qualified, bare = name.rpartition(":")
        for spelling in _spellings(bare):
            found = self._named.get((kind, spelling), [])
            if qualified:
                found = [entry for entry in found if normalised(entry.distribution) == normalised(distribution)]
            if found:
                return found
        return []

    def _unknown(self, kind: str, name: str) -> UnknownNameError:
        distribution, qualified, bare = name.rpartition(":")
        offered = self.entries(kind)
        owners: dict[str, list[str]] = {}
        for entry in offered:
            owners.setdefault(entry.qualified if qualified else entry.name, []).append(entry.distribution)
        prefix = bare.partition("/")[0]
        provider = normalised(distribution) if qualified else PROVIDERS.get(prefix)
        elsewhere = [entry for other in KINDS if other != kind for entry in self._matches(other, name)]
        silent = [plugin for plugin in self.plugins if plugin.status != "ok"]
        suspects = [each for each in silent if normalised(each.distribution) == provider or each.name == prefix]

        message = f"no {kind} is named {name!r}"
        hints: list[str] = []
        if elsewhere:
            found = elsewhere[0]
            message += f": {name!r} is {article(found.kind)} {found.kind} of {found.owner}, not {article(kind)} {kind}"
        elif suspects:
            message += f": {'; '.join(map(str, suspects))}"
            hints += [each.hint for each in suspects if each.hint]
        elif provider and provider not in {normalised(each.distribution) for each in self.plugins}:
            if provider in PROVIDERS.values():
                hints.append(f"pip install {provider}")
            elif qualified:
                message += f": no plugin of a distribution {distribution!r} is installed"
        close = near(name, owners)
        if close:
            spelt = [f"{each!r}" if qualified else f"{each!r} ({', '.join(owners[each])})" for each in close]
            hints.append(f"did you mean {' or '.join(spelt)}?")
        if not owners:
            hints.append(f"no installed plugin offers {article(kind)} {kind}")
        elif len(owners) <= _FEW:
            hints.append(f"installed: {', '.join(owners)}")
        else:
            hints.append(f"`plait list` shows all {len(owners)}")
        others = [each for each in silent if each not in suspects]
        if others and not elsewhere and not suspects:
            named = ", ".join(f"{each.name!r} of {each.distribution} ({each.status})" for each in others)
            hints.append(f"these plugins are not loaded and may offer it, `plait plugins` says why: {named}")
        hint = "; ".join(hints).replace("?; ", "? ")
        return UnknownNameError(message, hint=hint, details={"kind": kind, "name": name, "near": close})


def _spellings(name: str) -> Iterator[str]:
    """The names to look up for `name`: itself, then the families around it, the closest first."""
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield f"{name}/*"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError(f"there is no kind {kind!r}", hint=did_you_mean(kind, KINDS) or f"one of {KINDS}")


def _ambiguous(kind: str, name: str, found: Iterable[Entry]) -> AmbiguousNameError:
    found = list(found)
    offers = " and ".join(f"{entry.owner} (plugin {entry.plugin!r})" for entry in found)
    bare = name.rpartition(":")[2]  # of a family it is the variant that was asked for
    choices = list(dict.fromkeys(f"{entry.distribution}:{bare}" for entry in found))
    return AmbiguousNameError(
        f"{kind} {name!r} is offered by {offers}",
        hint=f"choose one: {' or '.join(choices)}",
        details=[
            {"distribution": entry.distribution, "version": entry.version, "plugin": entry.plugin} for entry in found
        ],
    )


__all__ = ["KINDS", "PROVIDERS", "Entry", "Plugin", "Registry"]
