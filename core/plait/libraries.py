"""How is transformers imported, by every plugin alike, and kept from the network?"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from typing import Any

from plait.errors import RecipeError


@cache
def transformers(*, allow_hub: bool = False) -> Any:
    """The package transformers, also beside a torchaudio that this torch cannot be used with, which it would import.

    Args:
        allow_hub: leave its reaching for a model hub as it is. Else it is offline, from its first import on.

    Raises:
        RecipeError: it is not installed, or cannot be imported.
    """
    if not allow_hub and "transformers" not in sys.modules:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else a name that is not here costs 24 seconds of retries
    if "torchaudio" not in sys.modules:
        try:
            importlib.import_module("torchaudio")  # transformers 5 does so wherever it finds one
        except ImportError:
            pass  # absent: nothing to import
        except (OSError, RuntimeError):  # built for another CUDA or torch, as 2.11 is beside torch 2.15
            sys.modules["torchaudio"] = None  # type: ignore[assignment]  # Python's own sign for: not to be found
    try:
        found = importlib.import_module("transformers")
    except ImportError as error:
        installed = importlib.util.find_spec("transformers") is not None
        said = f"does not import: {str(error).splitlines()[0]}" if installed else "is not installed"
        raise RecipeError(f"transformers {said}", hint="pip install -U 'transformers>=5,<6'") from error
    found.utils.logging.disable_progress_bar()
    found.utils.logging.set_verbosity_error()  # its advice is on its own ways of doing things, not on ours
    return found
