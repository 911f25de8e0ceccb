"""What is worth saying of a run, in whatever markup: its headline, its tables, its commands?"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns, as a report prints them. Numbers are formatted by the page; None is a dash."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report: plain text, a table, a figure (SVG or PNG). An evaluator makes it.

    It knows no markup: text and cells are escaped when the page is written, a figure is shown as an image, so that
    nothing in it runs.
    """

    title: str
    text: str = ""
    table: Table | None = None
    figure: bytes | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """The headline: one metric on one split, how sure it is, and what it must beat. It knows no markup."""

    split: str | None
    metric: str | None
    value: float | None
    interval: Mapping[str, Any] | None
    examples: int | None
    baselines: Mapping[str, float | None]
    higher_is_better: bool
    synthetic: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Headline:
        metrics, data = document.get("metrics") or {}, document.get("data") or {}
        split = next((name for name in ("test", "valid", *metrics) if metrics.get(name)), None)
        primary = document.get("primary") or {}
        name = primary.get("name")
        interval = (document.get("intervals") or {}).get(split)
        baselines = document.get("baselines") or {}
        return cls(
            split=split,
            metric=name,
            value=metrics.get(split, {}).get(name),
            interval=interval if interval and interval.get("metric", name) == name else None,
            examples=(data.get("counts") or {}).get(split),
            baselines={each: (found.get(split) or {}).get(name) for each, found in baselines.items()},
            higher_is_better=primary.get("higher_is_better", True),
            synthetic=bool(data.get("synthetic")) or any("synthetic" in str(note) for note in data.get("notes") or ()),
        )

    def sure(self) -> str:
        """How sure the value is, as a sentence; empty where nothing is known."""
        low, high = ((self.interval or {}).get(end) for end in ("low", "high"))
        if self.interval is None or low is None or high is None or not math.isfinite(low + high):
            return ""
        level = self.interval.get("level", 0.95)
        over = f" over {self.examples:,} examples" if self.examples else ""
        if low == high and self.value in (0.0, 1.0) and self.examples:
            # resamples of equal outcomes are equal: the rule of three (Hanley and Lippman-Hand 1983) says more
            bound = abs(self.value - min(1.0, 3 / self.examples))
            return (
                f"All {self.examples:,} examples came out alike; a true value of {as_text(bound)} would be no surprise."
            )
        return f"{level:.0%} interval {as_text(low)} to {as_text(high)} (bootstrap{over}; other seeds are not in it)."

    def verdict(self) -> str:
        """Whether the value beats the best baseline, as a sentence; empty where there is none."""
        known = {name: value for name, value in self.baselines.items() if value is not None and math.isfinite(value)}
        if not known or self.value is None or not math.isfinite(self.value):
            return ""
        sign = 1 if self.higher_is_better else -1
        best = max(known, key=lambda name: sign * known[name])
        theirs = known[best]
        gain = sign * (self.value - theirs)
        if gain <= 0:
            return f"It does not beat the baseline {best} ({as_text(theirs)})."
        bound = (self.interval or {}).get("low" if self.higher_is_better else "high")
        if bound is not None and sign * (bound - theirs) <= 0:
            return f"The baseline {best} ({as_text(theirs)}) lies inside the interval: it is not clearly beaten."
        return f"It beats the baseline {best} ({as_text(theirs)}) by {as_text(gain)}."


def metrics_table(document: Mapping[str, Any]) -> Table:
    """Every metric, a column for each split."""
    metrics = {split: found for split, found in (document.get("metrics") or {}).items() if found}
    names = dict.fromkeys(name for found in metrics.values() for name in found)
    rows = tuple((name, *(found.get(name) for found in metrics.values())) for name in names)
    return Table(("metric", *metrics), rows)


def comparison_table(document: Mapping[str, Any], result: Headline) -> Table:
    """The headline with its interval above the baselines; no rows where there are none."""
    interval = result.interval or {}
    own = (str(document.get("model")), result.value, interval.get("low"), interval.get("high"))
    level = f"{interval.get('level', 0.95):.0%}"
    others = [(f"{name} (baseline)", value, None, None) for name, value in result.baselines.items()]
    columns = ("model", f"{result.metric} on {result.split}", f"{level} low", f"{level} high")
    return Table(columns, (own, *others) if others else ())


def data_table(document: Mapping[str, Any]) -> Table:
    """What the run was fitted and judged on."""
    data = document.get("data") or {}
    given = {"source": data.get("source")}
    given |= {f"{split} examples": count for split, count in (data.get("counts") or {}).items()}
    given |= {"fingerprint": data.get("fingerprint")}
    return _named(given)


def facts_table(document: Mapping[str, Any]) -> Table:
    """When, where and with what the run was made."""
    plugins = [each if isinstance(each, str) else str(each.get("name")) for each in document.get("plugins") or ()]
    seconds = document.get("seconds")
    given = {key.replace("_", " "): document.get(key) for key in ("status", "created", "engine", "processes", "seed")}
    given |= {"time": None if seconds is None else _duration(seconds), "best step": document.get("best_step")}
    given |= {f"{name} version": version for name, version in (document.get("versions") or {}).items()}
    given |= {"plugins": ", ".join(plugins) or None}
    return _named(given)


def _named(values: Mapping[str, Any]) -> Table:
    # as text: a seed is a name, not a quantity to be aligned and given commas
    rows = (
        (key, f"{value:,}" if "examples" in key else str(value)) for key, value in values.items() if value is not None
    )
    return Table(("", ""), tuple(rows))


def notes(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know, of the data and of the run."""
    data = document.get("data") or {}
    return [str(note) for note in (*(data.get("notes") or ()), *(document.get("notes") or ())) if note]


def commands(directory: Path, document: Mapping[str, Any]) -> str:
    """Shell lines that use the run, or go on with it where it did not finish."""
    whole = directory.resolve()
    place = str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)
    run = shlex.quote(place)
    lines = [f"plait predict {run} INPUT...", f"plait evaluate {run}"]
    if document.get("status") not in (None, "finished"):
        lines.append(f"plait train --out {run} --resume")
    return "\n".join([*lines, f"# in Python: predictor = plait.load({place!r})"])


def as_yaml(values: Any) -> str:
    """A recipe as it would stand in a file."""
    plain = json.loads(json.dumps(values, default=str))  # a recipe may hold tuples and paths, YAML only plain values
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def as_text(value: Any) -> str:
    """A number as a reader wants it: four digits, thousands apart, a dash for what is not known."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}" if isinstance(value, int) else "–" if math.isnan(value) else str(value)
    if value == 0 or 1e-3 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.2e}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def clean(text: str) -> str:
    """The text without control characters and half surrogates (file names have them), which no UTF-8 page can hold."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)
