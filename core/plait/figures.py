"""How do the figures of a report look: curves over steps, a confusion matrix, a reliability diagram?"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#3d7dd8", "#e07b39", "#8a929b"  # legible on white and on near-black alike
_COLOURS = {"train": BLUE, "valid": ORANGE}  # a split looks the same in every figure
_INK = "#010203"  # stands for the reader's text colour while drawing
_STYLE = (
    "<style>svg{color:#1f2328;font-family:system-ui,sans-serif}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}"
    "</style>"
)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small files, and scripts that matplotlib's own font lacks
    "svg.hashsalt": "plait",  # the same numbers give the same bytes
    "text.parse_math": False,  # a label may hold "$"
    "font.size": 9.0,
    "axes.edgecolor": _INK, "axes.labelcolor": _INK, "axes.titlecolor": _INK, "text.color": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10.0, "axes.titlelocation": "left",
    "grid.color": GREY, "grid.alpha": 0.3, "grid.linewidth": 0.5,
    "legend.frameon": False,
}  # fmt: skip
_MOST_POINTS = 500


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: values over steps; non-finite values leave gaps."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    marked: bool = False


def curves(title: str, lines: Sequence[Line], *, best_step: int | None = None) -> bytes:
    """Lines over steps as SVG; long ones are averaged down to 500 points.

    Args:
        best_step: where a vertical line shows which parameters were kept.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line in lines:
            steps, values = _thinned(line)
            marker = "o" if line.marked and len(steps) <= 60 else None
            axes.plot(
                steps,
                values,
                color=_COLOURS.get(line.name, GREY),
                linewidth=1.4,
                marker=marker,
                markersize=3.5,
                label=line.name,
            )
        if best_step is not None:
            axes.axvline(best_step, color=GREY, linestyle="--", linewidth=1, label=f"best: step {best_step}")
        axes.set_title(_plain(title))
        axes.set_xlabel("step")
        axes.grid(True)
        if len(lines) > 1 or best_step is not None:
            axes.legend()

    return drawn(draw, 4.4, 2.8)


def confusion_matrix(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> bytes:
    """A matrix [targets, predictions] as SVG: shade is the share of its row, right answers blue, mistakes orange.

    Cells carry their count up to 20 classes. Legible up to about 30.
    """
    size = len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.add_subplot()
        for row, column in np.argwhere(counts > 0):
            share = float(shares[row, column])
            # a mistake in a hundred must be seen: mistakes start at a quarter of the shade
            alpha = 0.1 + 0.9 * share if row == column else 0.25 + 0.75 * share
            colour = BLUE if row == column else ORANGE
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0))
            if size <= 20:
                ink = "white" if alpha > 0.6 else _INK
                text = str(counts[row, column])
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8 if len(text) < 5 else 6)
        names = [_short(label) for label in labels]
        axes.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(size), names)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_xlabel("predicted")
        axes.set_ylabel("target")
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.tick_params(which="minor", length=0)
        axes.grid(True, which="minor")

    side = min(max(3.2, 1.4 + 0.38 * size), 10.0)
    return drawn(draw, side, side)


def reliability_diagram(
    confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> bytes:
    """How often answers of each confidence are right, as SVG: bars of accuracy against the diagonal, counts below.

    Args:
        confidence, correct: [examples], finite.
        edges: [bins + 1], from 0 to 1; bins are closed on the right.
    """
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    filled = counts > 0
    accuracy = np.bincount(bins, correct, len(counts))[filled] / counts[filled]
    mean = np.bincount(bins, confidence, len(counts))[filled] / counts[filled]
    left, width = edges[:-1][filled], np.diff(edges)[filled]

    def draw(figure: Figure) -> None:
        upper, lower = _stacked(figure)
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
        upper.bar(left, accuracy, width, align="edge", color=BLUE, alpha=0.45, label="accuracy")
        upper.plot(mean, accuracy, color=ORANGE, marker="o", markersize=4, linestyle="none", label="at mean confidence")
        upper.set_ylabel("accuracy")
        upper.set_ylim(0, 1.02)
        upper.legend(fontsize=8)
        lower.bar(left, counts[filled], width, align="edge", color=GREY, alpha=0.7)
        lower.set_ylabel("examples")
        lower.set_xlabel("confidence")
        lower.set_xlim(0, 1)

    return drawn(draw, 4.6, 4.2)


def _stacked(figure: Figure) -> tuple[Axes, Axes]:
    grid = figure.add_gridspec(2, 1, height_ratios=[3, 1])
    upper = figure.add_subplot(grid[0])
    lower = figure.add_subplot(grid[1], sharex=upper)
    upper.tick_params(labelbottom=False)
    return upper, lower


def drawn(draw: Any, width: float, height: float) -> bytes:
    """What `draw` puts on a figure of `width` x `height` inches, as SVG that follows the reader's colour scheme.

    Drawn without pyplot: no figure outlives the call, no window system is asked for, settings are put back.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # the reader's browser draws the text, in a font that has the glyph
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    head, body = text.split(">", 1)
    return f"{head}>{_STYLE}{body}".encode()


def _thinned(line: Line) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    steps, values = np.asarray(line.steps, np.float64), np.asarray(line.values, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(steps) <= _MOST_POINTS:
        return steps, values
    size = math.ceil(len(steps) / _MOST_POINTS)
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def _short(label: str) -> str:
    return _plain(label if len(label) <= 16 else f"{label[:15]}…")


def _plain(text: str) -> str:
    """Text that SVG can hold: no control characters, no half surrogates (file names have both)."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
