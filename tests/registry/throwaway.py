"""How does a test get a plugin that is really installed, and gone when the test is?

What pip leaves behind is a package and a `.dist-info` folder on the path; writing those takes a millisecond, and a
fresh interpreter with that path (and without site-packages, so that nothing else is installed) discovers them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

import plait_registry

REGISTRY = Path(plait_registry.__file__).parents[1]

HEADER = """
from plait_registry import *
from plait_registry import hookimpl
plait_api = 1
"""

REPORT = """
import json, sys
from plait_registry import Registry
registry = Registry.discover()
print(json.dumps({
    "plugins": {
        f"{each.distribution}:{each.name}": {
            "status": each.status, "reason": each.reason, "hint": each.hint, "output": each.output,
            "seconds": each.seconds, "version": each.version, "provides": each.provides,
        }
        for each in registry.plugins
    },
    "entries": [[each.kind, each.qualified] for each in registry.entries()],
    "notes": registry.notes,
    "modules": sorted(sys.modules),
    "more": globals().get("more"),
}))
"""


def model(name: str, **fields: str) -> str:
    """The source of a ModelSpec."""
    given = {"summary": "'one line'", "target": "'nowhere:Nothing'", "tasks": "('toy/copying',)", "trainer": "None"}
    return f"ModelSpec(name={name!r}, {', '.join(f'{key}={value}' for key, value in (given | fields).items())})"


def hook(hook_name: str, *specs: str) -> str:
    """The source of a hook that returns specs."""
    return f"@hookimpl\ndef {hook_name}():\n    return [{', '.join(specs)}]\n"


def install(
    site: Path,
    distribution: str,
    *,
    version: str = "1.0",
    source: str | None = None,
    files: Mapping[str, str] | None = None,
    points: Mapping[str, str] | None = None,
    metadata: str | None = None,
) -> str:
    """Install a distribution with one plugin in `site`.

    Args:
        source: its plugin module, `<package>/plugin.py`.
        files: further files of the package.
        points: entry points, where they are not one named as the package for `<package>.plugin`.

    Returns:
        The package's name.
    """
    package = distribution.lower().replace("-", "_")
    (site / package).mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__.py": "", "plugin.py": source or "", **(files or {})}.items():
        (site / package / name).write_text(textwrap.dedent(text))
    info = site / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        metadata or f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n\nText"
    )
    lines = [f"{name} = {value}" for name, value in (points or {package: f"{package}.plugin"}).items()]
    (info / "entry_points.txt").write_text("\n".join(["[console_scripts]", "x = y:z", "[plait.plugins]", *lines, ""]))
    return package


def python(site: Path, code: str, *, report: bool = True, environment: Mapping[str, str] | None = None) -> Any:
    """Run `code` in a fresh interpreter that has the distributions in `site`, the registry and pluggy, nothing else.

    With `report`, the code is followed by discovery, and what was discovered comes back; what the code leaves in
    `more` comes with it. Without, what the code prints comes back as text.
    """
    if not (site / "pluggy").exists():
        (site / "pluggy").symlink_to(Path(pluggy.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code + REPORT if report else code],
        env={
            "PYTHONPATH": os.pathsep.join([str(site), str(REGISTRY)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if report else done.stdout
