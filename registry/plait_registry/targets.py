"""Where does the code that a plugin names live, what does importing it give, and what mends it when it fails?"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, NamedTuple

from plait_registry.errors import did_you_mean

if TYPE_CHECKING:
    import ast

_PIP_NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "google.protobuf": "protobuf",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Modules that machine-learning code imports under another name than pip installs."""

_LONGEST = 300  # characters of a foreign error message that a table or a terminal line can bear


class Location(NamedTuple):
    """Where a target is defined. `line` is None where the name is made at run time (a module's `__getattr__`)."""

    module: str
    file: str
    line: int | None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def load(target: str) -> Any:
    """The object that "package.module:attribute" names. Raises whatever its import raises, or AttributeError."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def locate(target: str) -> Location | None:
    """Where `target` is defined, found by reading source and importing nothing; None where there is no source.

    A name that the module imports from elsewhere (`from .network import Network`) is followed to its definition.
    """
    import ast

    module, _, attribute = target.partition(":")
    nearest: Location | None = None
    for _hop in range(8):  # far more than anyone re-exports; a circle of imports ends here
        found = _find(module)
        if found is None or not found.has_location or not found.origin or not found.origin.endswith(".py"):
            return nearest
        try:
            with open(found.origin, "rb") as source:
                statement = _definition(ast.parse(source.read()), attribute)
        except (OSError, SyntaxError, ValueError):
            return Location(module, found.origin, None)
        nearest = Location(module, found.origin, statement.lineno if statement else None)
        if not isinstance(statement, ast.ImportFrom):
            return nearest
        origin = "." * statement.level + (statement.module or "")
        package = module if found.submodule_search_locations is not None else module.rpartition(".")[0]
        attribute = next(each.name for each in statement.names if (each.asname or each.name) == attribute)
        try:
            module = importlib.util.resolve_name(origin, package)
        except ImportError:
            return nearest
    return nearest


def blame(error: BaseException, module: str) -> str | None:
    """The "file:line" in the top-level package of `module` that the error came through, the innermost one."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    package = module.partition(".")[0]
    place, trace = None, error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == package:
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def describe(error: BaseException) -> str:
    """One line that says what was raised. It never raises, whatever the error's own `__str__` does."""
    if isinstance(error, SystemExit):
        return f"SystemExit: it called sys.exit({error.code!r})"
    try:
        text = str(error.msg) if isinstance(error, SyntaxError) else str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        text = "(its message cannot be printed)"
    line = " ".join(text.split())
    short = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def remedy(error: BaseException, *, module: str, distribution: str) -> str | None:
    """The command that mends a failed import, where one can be known.

    Args:
        error: what the import raised.
        module: the plugin's module, or its target's.
        distribution: the distribution that the module came with.
    """
    if not isinstance(error, ImportError) or not error.name:
        return None
    missing = error.name.partition(".")[0]
    if missing in ("plait", "plait_registry"):
        asked = re.match(r"cannot import name '(\w+)'", error.msg)
        near = did_you_mean(asked[1], vars(sys.modules[error.name])) if asked and error.name in sys.modules else None
        command = f"pip install --upgrade plait ({distribution} is written for another version of it)"
        return f"{command}, or {near}" if near else command
    if missing == module.partition(".")[0]:
        return f"pip install --force-reinstall {distribution} (it names a module that it does not contain)"
    if isinstance(error, ModuleNotFoundError) and "." not in error.name:
        return f"pip install {_PIP_NAMES.get(missing, missing)}"
    return f"pip install --upgrade {distribution} {_PIP_NAMES.get(missing, missing)} (their versions do not fit)"


def _find(module: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, which would run the `__init__` of every parent package; this runs nothing."""
    top, *parts = module.split(".")
    try:
        found = importlib.util.find_spec(top)
        for part in parts:
            if found is None or found.submodule_search_locations is None:
                return None
            found = PathFinder.find_spec(f"{found.name}.{part}", found.submodule_search_locations)
    except (ImportError, ValueError):  # ValueError: a module such as __main__ that has no spec
        return None
    return found


def _definition(tree: ast.Module, name: str) -> ast.stmt | None:
    """The last top-level statement that binds `name`; what stands in `if` and `try` counts as top level."""
    import ast

    bound: ast.stmt | None = None
    pending: list[ast.stmt] = list(tree.body)
    for statement in pending:  # it grows while we walk it
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = {statement.name}
        elif isinstance(statement, ast.ImportFrom):
            names = {each.asname or each.name for each in statement.names}
        elif isinstance(statement, ast.Assign):
            names = {each.id for each in statement.targets if isinstance(each, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names = {statement.target.id}
        else:
            names = set()
            for block in ("body", "orelse", "finalbody"):
                pending.extend(getattr(statement, block, ()))
            for handler in getattr(statement, "handlers", ()):
                pending.extend(handler.body)
        if name in names:
            bound = statement
    return bound
