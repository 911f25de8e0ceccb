"""Is this installation sound, and what would mend it? The verb `doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from plait.cli.options import json_option
from plait.cli.plugins import SLOW
from plait.cli.session import Session
from plait_registry.registry import Registry

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_OLDEST_PYTHON = (3, 11)
_LITTLE_DISK = 5 * 2**30  # bytes: two checkpoints of a small transformer and what a log grows to
_LITTLE_MEMORY = 4 * 2**30  # bytes: torch, a loader process and a small network


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look has found.

    Args:
        check: what was looked at.
        status: "broken" is what makes commands fail.
        message: what was found.
        remedy: what to do about it; None where nothing need be done.
    """

    check: str
    status: Literal["ok", "warning", "broken"]
    message: str
    remedy: str | None = None


@click.command()
@click.option("--full", is_flag=True, help="Import torch and probe the devices too (seconds).")
@json_option
@click.pass_obj
def doctor(session: Session, full: bool, as_json: bool) -> int:
    """Check this installation.

    Python, libraries, plugins, memory, disk, devices. Exit code 1 where something is broken. With --json: an array of
    check, status (ok, warning, broken), message, remedy.
    """
    findings = []
    for finding in [*_look(session.registry), *(_devices() if full else [])]:
        findings.append(finding)
        if not as_json:
            session.output.text(f"{finding.status:8}{finding.check:16}{finding.message}")
            if finding.remedy:
                session.output.text(f"{'':24}-> {finding.remedy}")
    if as_json:
        session.output.document([asdict(finding) for finding in findings])
    return 1 if any(finding.status == "broken" for finding in findings) else 0


def _look(registry: Registry) -> Iterator[Finding]:
    """Everything that can be seen without importing a library."""
    yield _python()
    yield from _libraries()
    yield from _plugins(registry)
    yield from _machine()


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("python", "broken", text, "install Python 3.11 or newer")
    return Finding("python", "ok", text)


def _libraries() -> Iterator[Finding]:
    """The distributions that `plait` declares, at the versions that it can use."""
    from packaging.requirements import Requirement

    try:
        yield Finding("plait", "ok", version("plait"))
        wanted = [Requirement(line) for line in requires("plait") or []]
    except PackageNotFoundError:
        yield Finding("plait", "broken", "is not installed as a distribution", "pip install plait")
        return
    for each in wanted:
        if each.name == "deepspeed":
            yield _deepspeed(each)
        elif each.marker is None or each.marker.evaluate({"extra": ""}):
            yield _library(each)


def _library(wanted: Requirement) -> Finding:
    command = f'pip install "{wanted.name}{wanted.specifier}"'
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Finding(wanted.name, "broken", f"missing; plait needs {wanted.name}{wanted.specifier}", command)
    if not wanted.specifier.contains(found, prereleases=True):
        return Finding(wanted.name, "warning", f"{found}; plait is made for {wanted.specifier}", command)
    return Finding(wanted.name, "ok", found)


def _deepspeed(wanted: Requirement) -> Finding:
    if sys.platform != "linux":
        return Finding("deepspeed", "ok", f"not available on {platform.system()}: one process trains")
    found = _library(wanted)
    if found.status == "broken":  # the local engine does without it
        return Finding("deepspeed", "warning", "missing: one process trains", found.remedy)
    return found


def _plugins(registry: Registry) -> Iterator[Finding]:
    for plugin in registry.plugins:
        name = f"plugin {plugin.name}"
        if plugin.status == "failed":
            yield Finding(name, "broken", f"{plugin.owner}: {plugin.reason}", plugin.hint)
        elif plugin.status == "disabled":
            yield Finding(name, "warning", f"{plugin.owner}: disabled: {plugin.reason}", plugin.hint)
        elif plugin.seconds > SLOW:
            remedy = "every command waits for it: import in the targets of its specs, not in the plugin's module;"
            remedy += f" PLAIT_DISABLE={plugin.name} switches it off"
            yield Finding(name, "warning", f"{plugin.owner}: {plugin.seconds:.2f} s to import", remedy)
        else:
            yield Finding(name, "ok", f"{plugin.owner}: {len(plugin.provides)} names, {plugin.seconds * 1000:.0f} ms")
    for note in registry.notes:
        yield Finding("environment", "warning", note)


def _machine() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "ok", str(usable))
    memory = _memory()
    if memory is not None:
        little = memory < _LITTLE_MEMORY
        remedy = "use a small trainer.batch_size, and trainer.workers=0" if little else None
        yield Finding("memory", "warning" if little else "ok", f"{memory / 2**30:.1f} GiB", remedy)
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.1f} GiB free in the working directory"
    if free < _LITTLE_DISK:
        yield Finding("disk", "warning", text, "make room, or point --out to another disk")
    else:
        yield Finding("disk", "ok", text)


def _memory() -> int | None:
    """Bytes of memory; of the container's limit where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def _devices() -> Iterator[Finding]:
    """What torch finds."""
    try:
        import torch
    except Exception as error:  # a wheel that does not fit the machine fails in many ways
        yield Finding("torch", "broken", f"does not import: {error}", "pip install --force-reinstall torch")
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            yield Finding(f"cuda:{index}", "ok", f"{found.name}, {found.total_memory / 2**30:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU")
    else:
        yield Finding("device", "ok", f"no GPU found; {torch.get_num_threads()} CPU threads")
