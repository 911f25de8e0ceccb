"""What tests of several processes run of the plugins: short trainings of real models at each ZeRO stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plait

TINY: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": (
        "nlp/text-classification",
        {
            "name": "transformers/bert", "hidden": 16, "layers": 2, "heads": 2, "intermediate": 32, "vocabulary": 200,
            "dropout": 0.0,
        },
        "locale-names",
    ),
    "sasrec": (
        "recommendation/next-item",
        {"name": "recommendation/sasrec", "width": 16, "length": 12, "blocks": 1, "dropout": 0.0},
        "synthetic-interactions",
    ),
    "two-tower": (
        "recommendation/retrieval",
        {"name": "recommendation/two-tower", "width": 8, "hidden": 16, "dropout": 0.0, "forget": 0.0},
        "synthetic-interactions",
    ),
}  # fmt: skip
"""Task, model block and data by what the tests call them."""


def train(name: str, out: Path, **engine: Any) -> plait.Run:
    """Four steps, then evaluations, predictions and `model/`."""
    task, model, source = TINY[name]
    return plait.train(
        task, model, {"source": source, "limit": 200}, out=out, engine={"device": "cpu", **engine},
        trainer={"max_steps": 4, "batch_size": 30, "log_every": 1, "learning_rate": 0.01},
        output={"baselines": False, "report": False, "tensorboard": False},
    )  # fmt: skip


def trained(folder: Path, names: list[str], stages: list[int], processes: int) -> None:
    """Each model at each stage, one after the other."""
    for name in names:
        for stage in stages:
            train(name, folder / f"{name}-{stage}", processes=processes, zero_stage=stage)
