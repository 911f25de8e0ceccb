"""Which tables come with installed packages, or can be made up?"""

from __future__ import annotations

from typing import Any

import numpy as np


def wine() -> list[dict[str, Any]]:
    """178 wines of three growers of one region: 13 chemical measurements, the grower as `label`.

    Source: S. Aeberhard, M. Forina, Wine, UCI, 1991; CC BY 4.0.
    """
    from sklearn.datasets import load_wine

    loaded = load_wine()
    return [
        {**dict(zip(loaded.feature_names, map(float, values), strict=True)), "label": f"grower {grower + 1}"}
        for values, grower in zip(loaded.data, loaded.target, strict=True)
    ]


def passengers(count: int = 240, seed: int = 0) -> list[dict[str, Any]]:
    """Made-up passengers: two numbers and two texts that say, not without noise, who travels on business."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        business = bool(index % 2)
        rows.append(
            {
                "age": round(float(generator.normal(45 if business else 33, 9)), 1),
                "days": round(float(generator.gamma(2.0, 1.5 if business else 4.0)), 1),
                "seat": str(generator.choice(["aisle", "window"], p=[0.8, 0.2] if business else [0.35, 0.65])),
                "class": str(generator.choice(["first", "second"], p=[0.6, 0.4] if business else [0.15, 0.85])),
                "label": "business" if business else "leisure",
            }
        )
    return rows
