"""What does a fit write for readers beside its metrics, and how is its history read again?"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.evaluation import interval
from plait.sealed import storage

if TYPE_CHECKING:
    from plait.evaluation import Evaluator

logger = logging.getLogger("plait")


def save_predictions(run: Path, split: str, evaluator: Evaluator, *, seed: int) -> dict[str, Any] | None:
    """Write predictions/<split>.parquet, and give the bootstrap interval of the primary metric."""
    import pyarrow.parquet as pq

    if evaluator.primary is None:
        return None
    table = evaluator.table()
    with storage(f"{run / 'predictions'}: could not be written"):
        (run / "predictions").mkdir(exist_ok=True)
        temporary = run / "predictions" / f".{split}.parquet"
        pq.write_table(table, temporary)
        temporary.replace(run / "predictions" / f"{split}.parquet")
    found = interval(evaluator.measure, table, seed=seed)
    return {"metric": evaluator.primary.name, "low": found.low, "high": found.high, "level": found.level}


def read_history(run: Path) -> list[Mapping[str, Any]]:
    """The lines of metrics.jsonl."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return []
    lines = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:  # a report with one point less is better than none
            logger.warning("%s:%d: left out of the report: %s", file, number, error)
    return lines
