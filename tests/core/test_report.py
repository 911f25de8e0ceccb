"""The page and the model card of a run: whole, harmless, and honest about what the numbers say."""

from __future__ import annotations

import base64
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plait.figures import Line, confusion_matrix, curves
from plait.report import Section, Table, write_report
from plait.summary import Headline, as_text

HOSTILE = '<script>alert(1)</script> & "it\'s" | `$x` \udc80\x00'
VOID = {"meta", "img"}


def document(**changes: Any) -> dict[str, Any]:
    """A finished run, as `run.json` and its neighbours describe it."""
    return {
        "name": "digits", "task": "vision/image-classification", "model": "vision/cnn", "status": "finished",
        "created": "2026-01-31T12:00:00Z", "seconds": 75.25, "engine": "local", "processes": 1, "seed": 1234,
        "versions": {"plait": "0.1.0"}, "plugins": [{"name": "vision", "version": "0.1.0"}],
        "data": {"source": "digits", "counts": {"train": 1258, "test": 360}, "fingerprint": "abc", "notes": []},
        "metrics": {"test": {"loss": 0.05, "accuracy": 0.9889, "log_loss": float("nan")}},
        "intervals": {"test": {"metric": "accuracy", "low": 0.9778, "high": 0.9972, "level": 0.95}},
        "baselines": {"vision/nearest-centroid": {"test": {"accuracy": 0.8917}}},
        "primary": {"name": "accuracy", "higher_is_better": True}, "best_step": 200,
        "recipe": {"task": "vision/image-classification", "trainer": {"epochs": 8}}, "notes": [],
    } | changes  # fmt: skip


def history(steps: int = 20) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(10, 10 * steps + 1, 10):
        lines.append({"step": step, "split": "train", "metrics": {"loss": 5 / step, "learning_rate": 1e-3}})
        if step % 50 == 0:
            lines.append({"step": step, "split": "valid", "metrics": {"loss": 6 / step, "accuracy": 1 - 1 / step}})
    return lines


class Page(HTMLParser):
    """A page as a browser sees it; fails where a tag is left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def images(self) -> dict[str, bytes]:
        found = {}
        for tag, attributes in self.tags:
            if tag == "img":
                kind, data = str(attributes["src"]).split(",", 1)
                assert kind in ("data:image/svg+xml;base64", "data:image/png;base64")
                found[str(attributes["alt"])] = base64.b64decode(data)
        return found


def written(directory: Path, *arguments: Any) -> Page:
    return Page(write_report(directory, *arguments).read_text(encoding="utf-8"))


def test_a_page_has_numbers_curves_and_sections(tmp_path: Path) -> None:
    table = Table(("class", "F1"), (("seven", 0.9876), ("eight", None)))
    page = written(tmp_path, document(), history(), [Section("Classes", "the worst first", table)])
    for expected in (
        "0.9889 accuracy on test",
        "95% interval 0.9778 to 0.9972",
        "beats the baseline vision/nearest-centroid (0.8917) by 0.0972",
        "the worst first",
        "0.9876",
        "1,258",
        "1234",
        "75.2 s",
        "epochs: 8",
    ):
        assert expected in page.text
    assert list(page.images) == ["loss over steps", "learning_rate over steps", "accuracy over steps"]
    assert b"best: step 200" in page.images["accuracy over steps"]
    for image in page.images.values():
        assert ET.fromstring(image).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314  # we drew it


def test_a_page_needs_nothing_else_and_runs_nothing(tmp_path: Path) -> None:
    page = written(tmp_path, document(), history(), [Section("Dot", figure=b"\x89PNG...")])
    assert {"script", "link", "iframe", "a", "form"}.isdisjoint(tag for tag, _ in page.tags)
    named = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(str(value).startswith("data:image/") for value in named)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_what_users_named_is_text_wherever_it_appears(tmp_path: Path) -> None:
    hostile = document(
        name=HOSTILE,
        model=HOSTILE,
        task=HOSTILE,
        notes=[HOSTILE],
        data={"source": HOSTILE, "counts": {HOSTILE: 3}, "notes": [HOSTILE]},
        metrics={"test": {"accuracy": 0.5, HOSTILE: 0.5}},
        baselines={HOSTILE: {"test": {"accuracy": 0.1}}},
        recipe={HOSTILE: HOSTILE},
    )
    figure = confusion_matrix(np.array([[3, 1], [0, 2]]), ["\udc80\x00<b>", r"$\oops$"])
    lines = [{"step": step, "split": "train", "metrics": {HOSTILE: 1.0}} for step in (1, 2)]
    section = Section(HOSTILE, HOSTILE, Table((HOSTILE,), ((HOSTILE,),)), figure)
    page = written(tmp_path, hostile, lines, [section])
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count('<script>alert(1)</script> & "it\'s"') >= 12
    for image in page.images.values():
        elements = ET.fromstring(image).iter()  # noqa: S314  # we drew it
        assert not [each for each in elements if each.tag.endswith("script")]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```(?:yaml|sh)\n.*?^```$|`[^`]*`", "", card, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in prose


@pytest.mark.parametrize("given", [{}, {"status": "failed", "metrics": {}}, {"metrics": {"test": {"accuracy": None}}}])
def test_a_run_that_got_nowhere_has_a_report_too(given: dict[str, Any], tmp_path: Path) -> None:
    page = written(tmp_path, given, [], [])
    assert page.images == {}
    assert tmp_path.name in page.text
    assert "None" not in page.text


def test_a_closed_form_fit_has_no_curves_and_gaps_are_left_out(tmp_path: Path) -> None:
    once = [{"step": 1, "split": "train", "metrics": {"log_likelihood": -3.5}}]
    assert written(tmp_path, document(), once, []).images == {}
    values = [-9.0, float("nan"), None, -7.0]
    em = [{"step": n, "split": "train", "metrics": {"log_likelihood": value}} for n, value in enumerate(values)]
    page = written(tmp_path, document(), em, [])
    assert list(page.images) == ["log_likelihood over steps"]
    assert b"nan" not in page.images["log_likelihood over steps"].lower()


@pytest.mark.parametrize(
    ("value", "low", "high", "baseline", "higher", "says"),
    [
        (0.9, 0.85, 0.95, 0.8, True, "beats the baseline b (0.8000) by 0.1000"),
        (0.9, 0.85, 0.95, 0.87, True, "not clearly beaten"),
        (0.9, 0.85, 0.95, 0.9, True, "does not beat"),
        (0.2, 0.15, 0.25, 0.3, False, "beats the baseline b (0.3000) by 0.1000"),
        (0.2, 0.15, 0.25, 0.22, False, "not clearly beaten"),
        (0.2, 0.15, 0.25, 0.1, False, "does not beat"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(
    value: float, low: float, high: float, baseline: float, higher: bool, says: str
) -> None:
    worse = 0.0 if higher else 1.0
    given = document(
        metrics={"test": {"m": value}},
        primary={"name": "m", "higher_is_better": higher},
        intervals={"test": {"metric": "m", "low": low, "high": high, "level": 0.95}},
        baselines={"a": {"test": {"m": worse}}, "b": {"test": {"m": baseline}}, "absent": {}},
    )
    assert says in Headline.of(given).verdict()


def test_no_mistake_is_not_certainty() -> None:
    perfect = document(
        metrics={"test": {"accuracy": 1.0}},
        intervals={"test": {"metric": "accuracy", "low": 1.0, "high": 1.0, "level": 0.95}},
    )
    assert Headline.of(perfect).sure() == (
        "All 360 examples came out alike; a true value of 0.9917 would be no surprise."
    )


def test_what_could_not_be_measured_has_no_interval() -> None:
    unknown = {"metric": "m", "low": math.nan, "high": math.nan, "level": 0.95}
    assert Headline.of(document(metrics={"test": {"m": math.nan}}, intervals={"test": unknown})).sure() == ""


def test_the_card_says_how_to_use_the_run_and_what_is_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "my runs"
    run.mkdir()
    made_up = document(status="interrupted", data={"source": "blobs", "synthetic": True, "counts": {"test": 360}})
    page = written(run, made_up, [], [])
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "**accuracy 0.9889** on test. 95% interval 0.9778 to 0.9972" in card
    assert "| loss | 0.0500 |" in card
    assert "| log\\_loss | – |" in card
    assert "plait predict 'my runs' INPUT..." in card
    assert "plait train --out 'my runs' --resume" in card
    assert "**synthetic data**" in card
    assert "synthetic data" in page.text
    write_report(run, document(), [], [])
    assert "--resume" not in (run / "README.md").read_text(encoding="utf-8")
    assert "synthetic" not in (run / "README.md").read_text(encoding="utf-8")


def test_figures_are_reproducible_follow_the_colour_scheme_and_leave_no_trace() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    line = Line("train", range(20_000), np.random.default_rng(0).random(20_000).tolist())
    figure = curves("loss", [line])
    assert figure == curves("loss", [line])
    assert dict(matplotlib.rcParams) == before
    assert b"currentColor" in figure
    assert b"prefers-color-scheme:dark" in figure
    assert len(figure) < 50_000, "twenty thousand points are averaged down"


def test_importing_is_cheap_and_drawing_keeps_clear_of_pyplot() -> None:
    code = """
import sys, plait.evaluation, plait.report
print(sorted({"torch", "matplotlib", "torchmetrics", "sklearn"} & set(sys.modules)))
from plait.figures import Line, curves
curves("loss", [Line("train", [1, 2], [0.5, 0.4])])
print(sorted({"matplotlib", "matplotlib.pyplot"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['matplotlib']"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (True, "yes"), (1797, "1,797"), (0.98888, "0.9889"), (3e-5, "3.00e-05"),
     (0.0, "0.0000"), (123.456, "123.5"), (45678.9, "45,678.9"), (float("inf"), "inf"), ("seven", "seven")],
)  # fmt: skip
def test_numbers_are_written_for_readers(value: Any, text: str) -> None:
    assert as_text(value) == text
