"""Which plugins are installed, and what became of each when it was loaded?

pluggy's own `load_setuptools_entrypoints` lets one plugin that raises hide all that follow it, and drops a second
distribution with the same entry-point name without a word. So entry points are read here, and each plugin is loaded
alone, into a manager of its own: whatever it raises, KeyboardInterrupt excepted, is its own failure.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from typing import IO, Any

from plait_registry.entry import Plugin, normalised, plugin_order
from plait_registry.errors import PlaitError, did_you_mean
from plait_registry.loading import GROUP, Found, UnfitError, load_plugin
from plait_registry.targets import blame, describe, remedy

ALLOW, BLOCK = "PLAIT_PLUGINS", "PLAIT_DISABLE"


def load_plugins(environ: Mapping[str, str]) -> tuple[list[Plugin], list[str]]:
    """Every installed plugin, and notes on names in PLAIT_PLUGINS and PLAIT_DISABLE that mean none of them.

    Both list names of entry points, of distributions, or "distribution:entry-point", separated by commas; "*" means
    all. PLAIT_DISABLE wins, and neither switches off the distribution `plait` itself.

    While plugins load, the warning filters, `sys.stdout`, `sys.stderr` and file descriptor 1 are held for the whole
    process: a program whose threads print does this before it starts them.
    """
    found = sorted(installed(), key=lambda each: plugin_order(each.distribution, each.name))
    allowed, blocked = _names(environ.get(ALLOW, "")), _names(environ.get(BLOCK, ""))
    plugins: list[Plugin] = []
    with _descriptor_1_spared():
        for each in found:
            siblings = [plugin for plugin in plugins if plugin.distribution == each.distribution]
            plugins.append(_switched_off(each, allowed, blocked) or _load(each, siblings))
    known = {"*"}.union(*map(_labels, found))
    notes = []
    for variable, names in ((ALLOW, allowed), (BLOCK, blocked)):
        for name in sorted(names - known):
            near = did_you_mean(name, known)
            notes.append(
                f"{variable} names {name!r}, and no installed plugin is called so" + (f"; {near}" * bool(near))
            )
    return plugins, notes


def installed() -> list[Found]:
    """The entry points of the group, read without importing anything; other distributions' broken files do no harm.

    A distribution that is on the path twice counts once, as the one that Python would import.
    """
    found: list[Found] = []
    seen = set()
    for candidate in importlib.metadata.distributions():
        if GROUP not in _text(candidate, "entry_points.txt"):
            continue
        name, _ = _identity(candidate)
        # A stale copy further down the path, or one that pip left half removed ("~lait"), is not what gets imported.
        distribution = next(iter(importlib.metadata.distributions(name=name)), candidate)
        name, version = _identity(distribution)
        if normalised(name) not in seen:
            seen.add(normalised(name))
            found += [Found(*point, name, version) for point in _points(_text(distribution, "entry_points.txt"))]
    return found


def _load(found: Found, siblings: Iterable[Plugin]) -> Plugin:
    """Load one plugin in isolation; where it fails, undo what it did to the process."""
    started, modules, path = time.perf_counter(), set(sys.modules), list(sys.path)
    outcome: dict[str, Any]
    with _output_captured() as output:
        try:
            manager, entries = load_plugin(found, siblings)
            outcome = {"entries": entries, "_manager": manager}
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            outcome = {"status": "disabled" if isinstance(error, UnfitError) else "failed"} | _account(error, found)
            sys.path[:] = path
            _forget(set(sys.modules) - modules, found.package)
    seconds = time.perf_counter() - started
    return replace(_plugin(found), **outcome, seconds=seconds, output=output.text())


def _account(error: BaseException, found: Found) -> dict[str, str | None]:
    """Why a plugin failed, where, and what mends it."""
    if isinstance(error, PlaitError):
        reason, hint = error.message, error.hint
    else:
        reason, hint = describe(error), remedy(error, module=found.package, distribution=found.distribution)
    place = blame(error, found.package)
    return {"reason": f"{reason} ({place})" if place and place not in reason else reason, "hint": hint}


def _forget(modules: Iterable[str], package: str) -> None:
    """Drop the failed plugin's own modules, so that nobody meets them half imported. Libraries that it brought stay."""
    for name in modules:
        if name == package or name.startswith(f"{package}."):
            del sys.modules[name]
            parent, _, leaf = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(leaf, None)


def _switched_off(found: Found, allowed: set[str], blocked: set[str]) -> Plugin | None:
    labels = {"*"} | _labels(found)
    if normalised(found.distribution) == "plait":
        return None
    if labels & blocked:
        reason, hint = f"{BLOCK} names it", f"unset {BLOCK}, or take it out"
    elif allowed and not labels & allowed:
        reason, hint = f"{ALLOW} is set and does not name it", f"unset {ALLOW}, or add {found.name!r}"
    else:
        return None
    return replace(_plugin(found), status="disabled", reason=reason, hint=hint)


def _plugin(found: Found) -> Plugin:
    return Plugin(found.name, found.distribution, found.version)


def _labels(found: Found) -> set[str]:
    """What the environment variables may call it."""
    name, distribution = normalised(found.name), normalised(found.distribution)
    return {name, distribution, f"{distribution}:{name}"}


def _names(listed: str) -> set[str]:
    return {normalised(name.strip()) for name in listed.split(",") if name.strip()}


def _text(distribution: importlib.metadata.Distribution, file: str) -> str:
    try:
        return distribution.read_text(file) or ""
    except (OSError, ValueError):  # ValueError: not UTF-8
        return ""


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version. `Distribution.metadata` parses the same with the email package: ten times the work."""
    headers: dict[str, str] = {}
    for line in (_text(distribution, "METADATA") or _text(distribution, "PKG-INFO")).splitlines():
        if not line:  # a long description may follow
            break
        key, _, value = line.partition(":")
        headers.setdefault(key, value.strip())
    return headers.get("Name", "unknown"), headers.get("Version", "unknown")


def _points(text: str) -> Iterator[tuple[str, str]]:
    """Name and value of each entry point of the group. A line that is malformed spoils itself only."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == GROUP and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


class _Captured(io.TextIOWrapper):
    """Stands in for `sys.stdout` and `sys.stderr` while a plugin loads.

    A log handler made meanwhile keeps it for good; once the plugin is loaded, it writes on to the real stderr.
    """

    def __init__(self, real: IO[str] | None) -> None:
        self._kept = io.BytesIO()
        super().__init__(self._kept, encoding="utf-8", errors="backslashreplace", write_through=True)
        self._real = real
        self._over = False

    def text(self) -> str:
        return self._kept.getvalue().decode("utf-8", "replace")

    def finish(self) -> None:
        self._over = True

    def write(self, text: str, /) -> int:
        if not self._over:
            return super().write(text)
        return self._real.write(text) if self._real is not None else len(text)

    def flush(self) -> None:
        if self._over and self._real is not None:
            self._real.flush()

    def fileno(self) -> int:
        """faulthandler and subprocess ask for it."""
        if self._real is None:
            raise io.UnsupportedOperation("fileno")
        return self._real.fileno()

    def close(self) -> None:
        """A plugin that closes its stdout closes nobody else's."""


@contextmanager
def _output_captured() -> Iterator[_Captured]:
    captured = _Captured(sys.stderr)
    try:
        with warnings.catch_warnings(), redirect_stdout(captured), redirect_stderr(captured):
            yield captured
    finally:
        captured.finish()


@contextmanager
def _descriptor_1_spared() -> Iterator[None]:
    """Send to stderr what C code and child processes of a plugin write to stdout, which may be somebody's JSON."""
    saved = None
    with suppress(OSError, ValueError, AttributeError):  # closed or absent, as under pythonw: nothing to spare
        _flush(sys.stdout, sys.__stdout__)
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        yield
    finally:
        if saved is not None:
            _flush(sys.__stdout__)
            os.dup2(saved, 1)
            os.close(saved)


def _flush(*streams: IO[str] | None) -> None:
    for stream in streams:
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]  # None raises AttributeError
