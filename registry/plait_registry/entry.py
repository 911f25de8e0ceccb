"""What does one plugin give, and what became of it?"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plait_registry.errors import TargetError, did_you_mean
from plait_registry.specs import DatasetSpec, ModelSpec, PortSpec, Spec
from plait_registry.targets import Location, blame, describe, load, locate, remedy

if TYPE_CHECKING:
    import pluggy


@dataclass(frozen=True, slots=True)
class Entry:
    """One offered spec and where it came from. It does not know its implementation until `resolve`."""

    spec: Spec | PortSpec
    plugin: str
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def summary(self) -> str:
        return self.spec.summary

    @property
    def modality(self) -> str | None:
        return self.spec.modality if isinstance(self.spec, Spec) else None

    @property
    def requires(self) -> str | None:
        """What pip installs to have what it needs; None where it needs no extra."""
        return self.spec.requires if isinstance(self.spec, ModelSpec | DatasetSpec) else None

    @property
    def qualified(self) -> str:
        """ "distribution:name", which chooses this entry where another distribution offers the same name."""
        return f"{self.distribution}:{self.name}"

    @property
    def owner(self) -> str:
        """The distribution and its version, as error messages name them."""
        return f"{self.distribution} {self.version}"

    def resolve(self) -> Any:
        """Import the target and return it.

        Raises:
            TargetError: whatever its import raised (KeyboardInterrupt alone passes), with the spec, its plugin, the
                line that is to blame, and the command that mends it where one is known.
        """
        if isinstance(self.spec, PortSpec):
            raise TargetError(f"port {self.name!r} of {self.owner} is a type of value; it has no code to import")
        target = self.spec.target
        module, _, attribute = target.partition(":")
        try:
            return load(target)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            place, hint = blame(error, module), remedy(error, module=module, distribution=self.distribution)
            if self.requires and isinstance(error, ModuleNotFoundError) and _is_foreign(error, module):
                hint = f'pip install "{self.requires}"'
            if place is None and isinstance(error, AttributeError) and module in sys.modules:
                place = getattr(sys.modules[module], "__file__", None)
                hint = did_you_mean(attribute, vars(sys.modules[module]))
            raise TargetError(
                f"{self.kind} {self.name!r} (plugin {self.plugin!r} of {self.owner}): its target {target!r} does not"
                f" import: {describe(error)}" + (f" ({place})" if place else ""),
                hint=hint,
                details={"name": self.name, "plugin": self.plugin, "distribution": self.distribution, "target": target},
            ) from error

    def location(self) -> Location | None:
        """The module, file and line of the target, found without importing anything; None where it has no source."""
        return None if isinstance(self.spec, PortSpec) else locate(self.spec.target)


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of the group `plait.plugins`, whatever became of it.

    Args:
        name: the entry point's name; with the distribution it is the key, for names may repeat.
        reason, hint: why it is not "ok", in one line, and what to do about it.
        seconds: what its import and its hooks took together.
        output: what it printed meanwhile.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "disabled"] = "ok"
    reason: str | None = None
    hint: str | None = None
    seconds: float = 0.0
    output: str = ""
    entries: tuple[Entry, ...] = ()
    _manager: pluggy.PluginManager | None = field(default=None, repr=False, compare=False)

    @property
    def owner(self) -> str:
        """The distribution and its version, as error messages name them."""
        return f"{self.distribution} {self.version}"

    @property
    def provides(self) -> list[str]:
        """The names that it offers."""
        return [entry.name for entry in self.entries]

    def __str__(self) -> str:
        text = f"plugin {self.name!r} of {self.owner}"
        if self.status == "ok":
            return text
        return f"{text} {'failed' if self.status == 'failed' else 'is disabled'}: {self.reason}"


def _is_foreign(error: ModuleNotFoundError, module: str) -> bool:
    """Whether what was not found is neither the plugin's own nor Plait's: then an extra may bring it."""
    return (error.name or "").partition(".")[0] not in ("", "plait", "plait_registry", module.partition(".")[0])


def normalised(name: str) -> str:
    """A distribution's name as pip compares it: "Plait_Vision" is "plait-vision"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def article(kind: str) -> str:
    """ "a" or "an"."""
    return "an" if kind[:1].lower() in "aeiou" else "a"


def plugin_order(distribution: str, name: str) -> tuple[bool, str, str]:
    """Plugins load and list by this, not by the order of installation or of the path; core's own come first."""
    return normalised(distribution) != "plait", normalised(distribution), name
