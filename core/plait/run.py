"""What happened in a training, as a directory: recipe, status, metrics, checkpoints, model, report."""

from __future__ import annotations

import json
import logging
import math
import platform
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from plait.errors import FailedRankError, Interrupted, PlaitError, RunError, StorageError, did_you_mean
from plait.lock import is_written, locked
from plait.sealed import storage, write_text

if TYPE_CHECKING:
    from plait.config import Recipe
    from plait_registry.registry import Registry

logger = logging.getLogger("plait")

SCHEMA = 1
"""The version of the run directory's layout. A change that old code cannot read raises it and adds a migration."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a schema version to the function that turns its run.json into the next version's."""

_OWN = {
    "recipe.yaml", "run.json", "metrics.jsonl", "tensorboard", "checkpoints", "model", "report.html", "README.md",
    "log.txt", "logs", "splits.parquet", "predictions", ".lock",
}  # fmt: skip


class Run:
    """A run directory. It knows files and status; it does not know how anything is trained."""

    writes: bool = True
    """False on ranks above 0, which read the run and leave it to rank 0."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info

    @classmethod
    def create(cls, path: Path, recipe: Mapping[str, Any], info: Mapping[str, Any]) -> Run:
        """A new run in an empty or absent directory (or in what a run left that died before its first checkpoint).

        Raises:
            RunError: the directory holds something.
            StorageError: it cannot be written.
        """
        with storage(f"{path}: the run directory could not be created"):
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, {"schema": SCHEMA, "name": path.name, "status": "running", "created": _now(), **info})
            write_text(
                path / "recipe.yaml", yaml.safe_dump({"schema": 1, **recipe}, sort_keys=False, allow_unicode=True)
            )
            run.write()
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run; one of an older schema is migrated in memory.

        Raises:
            RunError: it is no run directory, or one of a newer Plait.
        """
        file = path / "run.json"
        if not path.is_dir():
            near = did_you_mean(
                path.name, [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
            )
            raise RunError(f"{path}: no such run directory", hint=near or "`plait runs` lists runs")
        if not file.is_file():
            hint = "`plait runs` lists runs"
            if (path / "composition.json").is_file():
                hint = "it is a composition: predict with it, or name the run of one of its parts"
            raise RunError(f"{path}: not a run directory (it has no run.json)", hint=hint)
        try:
            info = json.loads(file.read_text(encoding="utf-8"))
            schema = info["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file}: damaged, not the JSON of a run ({error})") from error
        return cls(path, migrate(info, schema, file))

    @property
    def status(self) -> str:
        """running, finished, stopped (by its time limit), interrupted (by a signal), failed, or died: nobody who could
        have said so was left (a SIGKILL, a power cut). Of another host's run nobody here can tell: it is running."""
        status = str(self.info["status"])
        if status != "running" or self.info.get("host", socket.gethostname()) != socket.gethostname():
            return status
        if is_written(self.path):
            return status
        try:  # it may have ended meanwhile, as it should
            status = json.loads((self.path / "run.json").read_text(encoding="utf-8"))["status"]
        except (OSError, ValueError, KeyError, TypeError):
            return "died"
        return "died" if status == "running" else str(status)

    @property
    def task(self) -> str:
        return str(self.info["task"])

    @property
    def model(self) -> str:
        return str(self.info["model"])

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics of the final model by split."""
        return {
            split: {name: math.nan if number is None else number for name, number in metrics.items()}
            for split, metrics in self.info.get("metrics", {}).items()
        }

    def names(self) -> tuple[str, str]:
        """The names of task and model."""
        return self.task, self.model

    def recipe(self) -> dict[str, Any]:
        """The recipe that the run was started with."""
        file = self.path / "recipe.yaml"
        if not file.is_file():
            raise RunError(f"{file}: missing")
        from plait.layers import read_recipe

        return dict(read_recipe(file).values)

    def document(self) -> dict[str, Any]:
        """What `plait train --json` prints."""
        keys = ("task", "model", "metrics", "seconds", "engine", "processes")
        return {"run": str(self.path), **{key: self.info.get(key) for key in keys}}

    def update(self, **values: Any) -> None:
        """Change values of run.json and write it at once."""
        self.info.update(values)
        self.write()

    def write(self) -> None:
        """Replace run.json as a whole."""
        if not self.writes:
            return
        with storage(f"{self.path / 'run.json'}: the status could not be written"):
            text = json.dumps(without_nan(self.info), indent=1, ensure_ascii=False)
            write_text(self.path / "run.json", text + "\n")


def create_run(path: Path, recipe: Recipe, registry: Registry) -> Run:
    """A new run directory that says what made it."""
    entries = {each.distribution: each for each in (recipe.task, recipe.model)}
    info = {
        "task": recipe.task.name,
        "model": recipe.model_options.name,
        "seed": recipe.seed,
        "versions": versions({name: each.version for name, each in entries.items()}),
        "plugins": [
            {"name": each.plugin, "distribution": each.distribution, "version": each.version}
            for each in entries.values()
        ],
    }
    return Run.create(path, recipe.portable(registry), info)


@contextmanager
def status_kept(run: Run) -> Iterator[None]:
    """However the block ends, run.json says so."""
    command = resume_command(run.path)
    for stale in ("error", "resume"):  # of an earlier attempt
        run.info.pop(stale, None)
    run.update(status="running", host=socket.gethostname())
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        run.update(status="interrupted", resume=command)
        raise
    except BaseException as error:
        logger.info("%s: %s", type(error).__name__, error)
        # a full disk may refuse this too; the first error is what the user must see
        with suppress(StorageError):
            run.update(status="failed", error=f"{type(error).__name__}: {error}", resume=command)
        raise


def record_end(path: Path, error: Exception) -> None:
    """Say in run.json how a run ended whose own writer could not, or knew less: it was killed.

    Nothing where there is no run, or where another process writes it.
    """
    if not (path / "run.json").is_file():
        return
    with suppress(RunError), locked(path):
        run = Run.open(path)
        if run.info["status"] == "running" or (run.info["status"] == "failed" and isinstance(error, FailedRankError)):
            if isinstance(error, Interrupted):
                run.update(status="interrupted", resume=resume_command(path))
            else:
                run.update(status="failed", error=f"{type(error).__name__}: {error}", resume=resume_command(path))


def resume_command(path: Path) -> str:
    """What to type so that a run goes on."""
    return f"plait train --out {shlex.quote(str(path))} --resume"


def check_free(path: Path, *, resume: bool) -> bool:
    """Whether there is a run in `path` to resume; False where a new one may start.

    Raises:
        RunError: something else is there, or a run and `resume` is False.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: exists and is not a directory")
    if not path.is_dir():
        return False
    present = {each.name for each in path.iterdir()}
    foreign = sorted(name for name in present - _OWN if not name.startswith("."))
    if (path / "run.json").is_file():
        if not resume:
            raise RunError(f"{path}: a run is already there", hint="continue it with --resume, or choose another --out")
        return True
    if foreign:
        raise RunError(
            f"{path}: not empty and not a run (it has {', '.join(foreign[:3])})", hint="choose another --out"
        )
    if present - {".lock", "logs"} and not resume:
        raise RunError(f"{path}: holds an unfinished run", hint="continue it with --resume, or choose another --out")
    return False


def new_directory(root: Path, task: str, model: str) -> Path:
    """A fresh directory name under `root`: task, model, date and time."""
    stem = f"{task.rsplit('/', 1)[-1]}-{model.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = root / stem, 2
    while path.exists():
        path, number = root / f"{stem}-{number}", number + 1
    return path


def migrate(info: dict[str, Any], schema: Any, file: Path) -> dict[str, Any]:
    """run.json in today's schema.

    Raises:
        RunError: the schema is newer than this Plait, or too old.
    """
    if not isinstance(schema, int) or schema > SCHEMA:
        raise RunError(
            f"{file}: schema version {schema}, and this plait ({_version('plait')}) reads up to {SCHEMA}",
            hint=f"pip install --upgrade plait (plait {info.get('versions', {}).get('plait', '?')} wrote the run)",
        )
    while schema < SCHEMA:
        if schema not in MIGRATIONS:
            raise RunError(f"{file}: schema version {schema} is too old for plait {_version('plait')}")
        info = MIGRATIONS[schema](info)
        schema = info["schema"] = schema + 1
    return info


def find_runs(root: Path) -> list[Run]:
    """The runs below `root`, oldest first; directories that cannot be read as a run are left out."""
    found = []
    for file in sorted(root.glob("*/run.json")):
        try:
            found.append(Run.open(file.parent))
        except PlaitError as error:
            found.append(Run(file.parent, {"status": "unreadable", "error": error.message, "task": "?", "model": "?"}))
    return sorted(found, key=lambda run: str(run.info.get("created", "")))


def versions(distributions: Mapping[str, str]) -> dict[str, str]:
    """What made a run: Python, torch, plait and the plugins."""
    fixed = {name: _version(name) for name in ("plait", "torch", "numpy")}
    return {"python": platform.python_version(), "platform": sys.platform, **fixed, **distributions}


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return value


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="milliseconds")
