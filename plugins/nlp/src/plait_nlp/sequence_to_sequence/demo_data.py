"""Which data for translation and summarization does the plugin bring: CLDR's names, and generated reports?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def name_translations() -> Mapping[str, list[dict[str, str]]]:
    """English and German names of languages, countries, scripts and currencies, from the Unicode CLDR as babel ships
    it. A thing is in one split only; so what is learned is how such names are built, not which they are.
    """
    from babel import Locale

    english, german = Locale("en"), Locale("de")
    pairs: dict[str, str] = {}
    for kind in ("languages", "territories", "scripts", "currencies"):
        names: Mapping[str, str] = getattr(english, kind)
        others: Mapping[str, str] = getattr(german, kind)
        for code in sorted(names):
            if code in others and not code.isdecimal():  # 419 is a region of the world's statistics
                pairs.setdefault(names[code], others[code])
    listed = [{"source": source, "target": target} for source, target in pairs.items()]
    order = np.random.default_rng(0).permutation(len(listed))
    part = len(listed) // 8
    bounds = {"test": order[:part], "valid": order[part : 2 * part], "train": order[2 * part :]}
    return {split: [listed[index] for index in sorted(bounds[split].tolist())] for split in ("train", "valid", "test")}


_PLACES = ("harbour", "market", "library", "bridge", "station", "museum", "school", "garden", "theatre", "stadium")
_EVENTS = {
    "opened": "{place} has opened its doors again",
    "closed": "visitors must stay away from the {place} until further notice",
    "flooded": "water stands knee-deep in the {place} after the storm",
    "sold": "a new owner has paid for the {place} and will take it over",
    "painted": "workers have given the {place} a fresh coat of colour",
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOWNS = ("Arden", "Brill", "Corby", "Delph", "Esher", "Frome", "Goole", "Hythe")
_OTHERS = (
    "The mayor of {town} was not available for comment.",
    "Many people in {town} still talk about last year's fair.",
    "Buses run every twenty minutes.",
    "The weather is expected to stay mild.",
    "Several neighbours said they had heard nothing.",
    "A cat was seen near the scene, as so often.",
)


def synthetic_reports() -> list[dict[str, Any]]:
    """600 reports of four to six sentences on what happened to a place, and when, each with a summary in one sentence.
    What happened is said in other words than in the summary, and rarely in the first sentence. Synthetic.
    """
    generator = np.random.default_rng(3)
    rows = []
    for _ in range(600):
        place, town, day = (str(generator.choice(each)) for each in (_PLACES, _TOWNS, _DAYS))
        event = str(generator.choice(list(_EVENTS)))
        news = _EVENTS[event].format(place=f"the {place}" if _EVENTS[event].startswith("{") else place)
        sentences = [f"It happened on {day}.", f"{news[0].upper()}{news[1:]}."]
        chosen = generator.choice(len(_OTHERS), size=int(generator.integers(2, 5)), replace=False)
        sentences += [_OTHERS[index].format(town=town) for index in chosen.tolist()]
        order = generator.permutation(len(sentences)).tolist()
        source = [f"This is a report from {town}.", *(sentences[index] for index in order)]
        rows.append({"source": source, "target": f"{town}: {place} {event} on {day}"})
    return rows
