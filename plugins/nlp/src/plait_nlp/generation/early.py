"""Is there a language model to generate with? Asked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.data import no_such_path
from plait.errors import RunError


def check_block(block: Mapping[str, Any]) -> None:
    """Refuse a `model` block of nlp/generator whose run is not there.

    Raises:
        RunError: names the path, and what is near it.
        DataError: `directory` is no model's.
    """
    given = block.get("from")
    if isinstance(given, str):
        path = Path(given)
        if not path.exists():
            error = no_such_path(path)
            raise RunError(f"model.from: {error.message}", hint=error.hint)
        if not ((path / "plait.json").is_file() or (path / "model" / "plait.json").is_file()):
            hint = "model.directory takes a directory of transformers" if (path / "config.json").is_file() else None
            raise RunError(f"model.from={given}: holds no fitted model", hint=hint or "name the directory of a run")
    if isinstance(block.get("directory"), str):
        from plait_nlp.architectures.directory import read_directory

        read_directory(Path(str(block["directory"])))
