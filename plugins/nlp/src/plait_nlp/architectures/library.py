"""How is transformers imported, and its weights and words kept from the network?"""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from typing import Any

from plait.errors import RecipeError


@cache
def transformers(*, allow_hub: bool = False) -> Any:
    """The package, also beside a torchaudio that this torch cannot be used with. It reaches no hub unless allowed.

    Raises:
        RecipeError: it cannot be imported.
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
        raise RecipeError(
            f"transformers does not import: {str(error).splitlines()[0]}", hint="pip install -U 'transformers>=5,<6'"
        ) from error
    found.utils.logging.disable_progress_bar()
    found.utils.logging.set_verbosity_error()  # its advice is on its own ways of doing things, not on ours
    return found
