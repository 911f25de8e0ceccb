"""Which errors does Plait raise on purpose, and what does each tell its reader?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class PlaitError(Exception):
    """An error that Plait raises on purpose: what happened, and what to do about it.

    It does not know how it is shown; the CLI prints text or one JSON object of `as_json`.

    Args:
        message: what is wrong, where (file, line, field, plugin), and what was expected.
        hint: what to do: a near name, a command, an extra to install.
        details: the same as data, JSON values only (for instance one entry for each bad key).
    """

    exit_code = 2  # the same command would fail again until somebody mends something; other failures exit with 1

    def __init__(
        self, message: str, *, hint: str | None = None, details: Iterable[Mapping[str, Any]] | Mapping[str, Any] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details) if isinstance(details, Mapping) else [dict(entry) for entry in details]

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def as_json(self) -> dict[str, Any]:
        """The error as the CLI's JSON contract has it: type, message, and hint and details where given."""
        body: dict[str, Any] = {"type": type(self).__name__, "message": self.message}
        if self.hint:
            body["hint"] = self.hint
        if self.details:
            body["details"] = self.details
        return {"error": body}


class SpecError(PlaitError):
    """A spec is not well formed: a bad name, port, target or field."""


class PluginError(PlaitError):
    """A plugin cannot be used: broken, disabled, absent, or of another plugin-API version."""


class UnknownNameError(PlaitError):
    """No plugin offers the name; near names are in the hint."""


class AmbiguousNameError(PlaitError):
    """Two distributions offer the name; `distribution:name` chooses."""


class TargetError(PluginError):
    """A spec's target does not import; the spec's plugin is at fault."""


def near(name: str, names: Iterable[str], *, most: int = 3) -> list[str]:
    """The names closest to `name`, best first; a name that differs only in its last part counts as close."""
    import difflib  # 2 ms that only a mistake should cost

    candidates = sorted(set(names))
    found = difflib.get_close_matches(name, candidates, n=most, cutoff=0.6)
    if not found and "/" in name:  # "vision/image-classifier" and "image-classification" share a tail
        tails: dict[str, list[str]] = {}
        for candidate in candidates:
            tails.setdefault(candidate.rpartition("/")[2], []).append(candidate)
        close = difflib.get_close_matches(name.rpartition("/")[2], tails, n=most, cutoff=0.6)
        found = [candidate for tail in close for candidate in tails[tail]][:most]
    if not found and name != name.lower():  # "CNN" has no letter of "cnn"
        found = near(name.lower(), candidates, most=most)
    if not found:
        found = [candidate for candidate in candidates if name and (name in candidate or candidate in name)][:most]
    return found


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """A hint such as "did you mean 'vision/cnn' or 'vision/mlp'?", or None where nothing is near."""
    found = near(name, names)
    return f"did you mean {' or '.join(repr(each) for each in found)}?" if found else None
