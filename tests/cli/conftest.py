"""How do tests of the CLI run a command, in this process or a fresh one, beside a plugin that is really installed?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plait.cli import main
from plait.cli.new import write_plugin
from tests.registry.throwaway import HEADER, install

SLOW = """
from plait.model import Progress, State
from plait_meadow.model import NearestMean

class Slow(NearestMean):
    '''Class means, found four times over: a fit that can be interrupted.'''

    def step(self, data, state, engine):
        done = state.values.get("done", 0) + 1
        found, _ = super().step(data, state, engine)
        return State(found.tensors, {"done": done}), Progress({"loss": 1 / done}, converged=done == 4)
"""

ORACLE = """
import json
import numpy as np
from plait.evaluation import ClassPrediction
from plait.model import Model

class Oracle(Model):
    '''Says "far" of everything; there is nothing to fit.'''

    def __init__(self, options, problem):
        self.options, self.problem = options, problem

    @classmethod
    def create(cls, *, options, problem, train, seed):
        return cls(options, problem)

    def predict(self, examples):
        return [ClassPrediction(np.eye(3)[0]) for _ in examples]

    def save(self, directory):
        (directory / "oracle.json").write_text(json.dumps({}))

    @classmethod
    def load(cls, directory, *, options, problem):
        return cls(options, problem)
"""

EXTRAS = (
    HEADER
    + """
import os, sys
print("noise at import")

@hookimpl
def plait_models():
    both = dict(tasks=("meadow/row-classification",))
    return [
        ModelSpec(name="extras/slow", summary="Four steps", target="extras.slow:Slow", trainer="iterative", **both),
        ModelSpec(name="extras/oracle", summary="Predicts only", target="extras.oracle:Oracle", trainer=None, **both),
    ]

@hookimpl
def plait_step_logged(run, step, metrics):
    print("noise from Python")
    os.write(1, b"noise from C\\n")
    if step == 2 and os.environ.get("SEND_SIGNAL"):
        os.kill(os.getpid(), int(os.environ["SEND_SIGNAL"]))
"""
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said and returned."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout; fails where stdout is anything else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error document's body."""
        body: dict[str, Any] = self.json["error"]
        return body


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site directory with the plugin that `plait new plugin meadow` writes, and one with odd models and hooks."""
    root = tmp_path_factory.mktemp("site")
    write_plugin("meadow", root / "project")
    (root / "project" / "src" / "plait_meadow").rename(root / "plait_meadow")
    info = root / "plait_meadow-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plait-meadow\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[plait.plugins]\nmeadow = plait_meadow.plugin\n")
    install(root, "extras", source=EXTRAS, files={"slow.py": SLOW, "oracle.py": ORACLE})
    return root


@pytest.fixture
def environment(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, the site on the path, and an environment that is put back afterwards."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "PLAIT_DISABLE", "PLAIT_PLUGINS"):
        monkeypatch.setenv(variable, "")  # remembered, so that what a command sets is undone
        monkeypatch.delenv(variable)
    return tmp_path


@pytest.fixture
def plait(environment: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command in this process."""

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture
def process(environment: Path, site: Path) -> Callable[..., Answer]:
    """Run a command in a fresh process: what is about processes, signals and file descriptors."""

    def run(*words: object, source: str | None = None, **variables: str) -> Answer:
        start = ["-c", source] if source else ["-m", "plait"]
        done = subprocess.run(
            [sys.executable, *start, *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def fitted(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the meadow plugin on its demo data."""
    out = tmp_path_factory.mktemp("fitted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        assert (
            main(["run", "meadow/row-classification", "--out", str(out), "-q", "--set", "output.tensorboard=false"])
            == 0
        )
    return out
