"""Which text does a language model learn from where none is given?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_KINDS = ("territories", "languages", "currencies")
_SPOKEN = ("de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "sv", "tr")


def place_names() -> Mapping[str, list[str]]:
    """Names of countries, languages and currencies in twelve languages in Latin script, from the Unicode CLDR as babel
    ships it; each a text of its own. A name that is the same in several languages is there once, and a thing's names
    are all in the same split.
    """
    from babel import Locale

    parts: dict[str, dict[str, None]] = {"train": {}, "valid": {}, "test": {}}
    for kind in _KINDS:
        codes = sorted(getattr(Locale("en"), kind))
        order = np.random.default_rng(0).permutation(len(codes))
        for place, index in enumerate(order.tolist()):
            share = place / len(order)
            part = "train" if share < 0.8 else "valid" if share < 0.9 else "test"
            for language in _SPOKEN:
                name = getattr(Locale(language), kind).get(codes[index])
                if name and not any(name in names for names in parts.values()):
                    parts[part][name] = None
    return {split: list(names) for split, names in parts.items()}
