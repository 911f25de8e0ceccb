"""What does a reader see of a run: which page and which model card are written from its numbers?"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.summary import (
    Headline,
    Section,
    Table,
    as_text,
    as_yaml,
    clean,
    commands,
    comparison_table,
    data_table,
    facts_table,
    metrics_table,
    notes,
)


def write_report(
    directory: Path, document: Mapping[str, Any], history: Sequence[Mapping[str, Any]], sections: Sequence[Section]
) -> Path:
    """Write `report.html`, a page that needs no other file, script or network, and `README.md`, a short model card.

    Args:
        directory: the run; existing.
        document: the run as JSON values (`run.json` with data, metrics, intervals, baselines, recipe); a key that is
            absent leaves its part out, so that a failed run has a report too.
        history: the lines of `metrics.jsonl`.
        sections: what the evaluator shows beside the numbers.

    Returns:
        The path of the page.
    """
    result = Headline.of(document)
    (directory / "README.md").write_text(clean(_card(directory, document, result)), encoding="utf-8")
    page = directory / "report.html"
    page.write_text(clean(_page(directory, document, result, history, sections)), encoding="utf-8")
    return page


# ------------------------------------------------------------------------------------------------ the page


class _Html(str):
    """Text that is markup already; every other string is escaped on its way into the page."""

    __slots__ = ()


def _tag(name: str, *children: object, **attributes: str | None) -> _Html:
    given = {key.rstrip("_"): value for key, value in attributes.items() if value is not None}
    opened = "".join(f' {key}="{html.escape(value)}"' for key, value in given.items())
    return _Html(f"<{name}{opened}>{_joined(children)}</{name}>")


def _joined(children: Iterable[object]) -> _Html:
    return _Html("".join(each if isinstance(each, _Html) else html.escape(str(each)) for each in children))


def _page(
    directory: Path,
    document: Mapping[str, Any],
    result: Headline,
    history: Sequence[Mapping[str, Any]],
    sections: Sequence[Section],
) -> str:
    name = str(document.get("name", directory.name))
    parts = [
        _header(name, document, result),
        _shown(Section("Metrics", table=metrics_table(document))),
        _shown(Section("Compared with", table=comparison_table(document, result))),
        _curves(document, history),
        *(_shown(section) for section in sections),
        _shown(Section("Data", table=data_table(document))),
        _shown(Section("Run", table=facts_table(document))),
        _recipe(document),
        _tag("section", _tag("h2", "Use"), _tag("pre", commands(directory, document))),
    ]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        "'unsafe-inline'\">\n"
    )
    body = "\n".join(str(part) for part in parts if part)
    return (
        f"{head}{_tag('title', f'{name} - Plait')}\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(name: str, document: Mapping[str, Any], result: Headline) -> _Html:
    status = str(document.get("status", ""))
    chips = [_tag("span", status, class_=f"chip {'good' if status == 'finished' else 'bad'}")] if status else []
    if result.synthetic:
        chips.append(_tag("span", "synthetic data", class_="chip bad"))
    line = " · ".join(str(document[key]) for key in ("task", "model", "created") if document.get(key))
    parts = [_tag("h1", name, " ", *chips), _tag("p", line, class_="quiet")]
    if result.value is not None and result.metric:
        value = _tag("span", as_text(result.value), class_="number")
        parts.append(_tag("p", value, f" {result.metric} on {result.split}", class_="headline"))
        parts += [_tag("p", text) for text in (result.sure(), result.verdict()) if text]
    if notes(document):
        parts.append(_tag("ul", *(_tag("li", note) for note in notes(document)), class_="notes"))
    return _tag("header", *parts)


def _shown(section: Section) -> _Html:
    """A section as markup; nothing where it holds nothing."""
    parts = []
    if section.text:
        parts.append(_tag("p", section.text))
    if section.figure:
        parts.append(_image(section.figure, section.title))
    if section.table and section.table.rows:
        parts.append(_tag("div", _table(section.table), class_="wide"))
    return _tag("section", _tag("h2", section.title), *parts) if parts else _Html("")


def _image(figure: bytes, described: str) -> _Html:
    """An image inside the page; browsers run no script of an image."""
    kind = "png" if figure.startswith(b"\x89PNG") else "svg+xml"
    source = f"data:image/{kind};base64,{base64.b64encode(figure).decode('ascii')}"
    return _Html(f'<img alt="{html.escape(described)}" src="{source}">')


def _table(table: Table) -> _Html:
    """Columns of numbers are set flush right, under a head that is too."""

    def numeric(value: object) -> bool:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))

    classes = ["n" if all(numeric(row[at]) for row in table.rows) else None for at in range(len(table.columns))]
    head = (_tag("th", name, scope="col", class_=kind) for name, kind in zip(table.columns, classes, strict=True))
    rows = (
        _tag("tr", *(_tag("td", as_text(value), class_=kind) for value, kind in zip(row, classes, strict=True)))
        for row in table.rows
    )
    named = _tag("thead", _tag("tr", *head)) if any(table.columns) else _Html("")
    return _tag("table", named, _tag("tbody", *rows))


def _curves(document: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> _Html:
    """Loss, learning rate, the primary metric, then whatever else the trainer logged: six figures at most."""
    from plait.figures import Line, curves

    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for entry in history:
        for name, value in (entry.get("metrics") or {}).items():
            if isinstance(value, int | float):
                series.setdefault(name, {}).setdefault(entry["split"], []).append((entry["step"], value))
    primary = (document.get("primary") or {}).get("name")
    trained = [name for name, found in series.items() if "train" in found]
    wanted = dict.fromkeys(["loss", "learning_rate", primary, *trained])
    order = [name for name in wanted if name in series and name != "epoch"]
    pictures = []
    for name in order:
        found = series[name]
        if max(len(points) for points in found.values()) < 2:
            continue  # one point is in the table above
        lines = [
            Line(split, [step for step, _ in points], [value for _, value in points], marked=split != "train")
            for split, points in found.items()
        ]
        best = document.get("best_step") if name == primary else None
        figure = curves(name.replace("_", " "), lines, best_step=best)
        pictures.append(_image(figure, f"{name} over steps"))
    if not pictures:
        return _Html("")
    return _tag("section", _tag("h2", "Over the steps"), _tag("div", *pictures[:6], class_="grid"))


def _recipe(document: Mapping[str, Any]) -> _Html:
    if not document.get("recipe"):
        return _Html("")
    return _tag(
        "section",
        _tag("h2", "Recipe"),
        _tag("details", _tag("summary", "as it ran"), _tag("pre", as_yaml(document["recipe"]))),
    )


# ------------------------------------------------------------------------------------------------ the model card


def _card(directory: Path, document: Mapping[str, Any], result: Headline) -> str:
    name = document.get("name", directory.name)
    synthetic = " (**synthetic data**)" if result.synthetic else ""
    lines = [f"# {_md(name)}", ""]
    lines += [f"A model for `{document.get('task')}`, fitted by Plait: `{document.get('model')}`{synthetic}.", ""]
    if result.value is not None and result.metric:
        lines += [f"**{_md(result.metric)} {as_text(result.value)}** on {_md(result.split)}. {_md(result.sure())}", ""]
        lines += [_md(result.verdict()), ""] if result.verdict() else []
    for title, table in (
        ("Metrics", metrics_table(document)),
        ("Compared with", comparison_table(document, result)),
        ("Data", data_table(document)),
        ("Run", facts_table(document)),
    ):
        if table.rows:
            lines += [f"## {title}", "", *_md_table(table), ""]
    if notes(document):
        lines += ["## Notes", "", *(f"- {_md(note)}" for note in notes(document)), ""]
    if document.get("recipe"):
        lines += ["## Recipe", "", *_fenced(as_yaml(document["recipe"]), "yaml"), ""]
    lines += ["## Use", "", *_fenced(commands(directory, document), "sh"), ""]
    lines += ["`report.html` beside this file has the figures. Loading this directory executes nothing in it."]
    return "\n".join(lines) + "\n"


def _md(text: object) -> str:
    """Text in Markdown: what would be markup is escaped, line breaks become spaces."""
    flat = " ".join(str(text).split())
    return html.escape("".join(f"\\{each}" if each in "\\`*_[]|#~" else each for each in flat), quote=False)


def _md_table(table: Table) -> list[str]:
    def row(cells: Iterable[object]) -> str:
        return "| " + " | ".join(_md(as_text(cell) if not isinstance(cell, str) else cell) for cell in cells) + " |"

    return [row(table.columns), "| " + " | ".join("---" for _ in table.columns) + " |", *map(row, table.rows)]


def _fenced(text: str, language: str) -> list[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}{language}", text.rstrip("\n"), fence]


_CSS = """
:root{color-scheme:light dark;--ink:#1f2328;--quiet:#59636e;--paper:#fff;--rule:#d1d9e0;--tint:#f6f8fa;--good:#1a7f37;
--bad:#b35900}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--quiet:#9198a1;--paper:#0d1117;--rule:#3d444d;--tint:#151b23;
--good:#3fb950;--bad:#e3892b}}
body{margin:0 auto;max-width:64rem;padding:1.5rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--rule);padding-bottom:.25rem}
p{margin:.3rem 0;max-width:52rem}.quiet{color:var(--quiet)}
.headline{margin-top:1.2rem}.number{font-size:2.6rem;font-weight:600;font-variant-numeric:tabular-nums}
.chip{font-size:.8rem;font-weight:500;border:1px solid;border-radius:1rem;padding:.1rem .6rem;vertical-align:middle}
.good{color:var(--good)}.bad{color:var(--bad)}
.notes{margin:.8rem 0;padding:.6rem 1rem .6rem 2rem;background:var(--tint);border-left:3px solid var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0}
th,td{text-align:left;padding:.25rem 1.2rem .25rem 0;border-bottom:1px solid var(--rule);overflow-wrap:anywhere}
th{color:var(--quiet);font-weight:500;font-size:.9rem}th.n,td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
img{max-width:100%;height:auto}.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:1rem}
pre{background:var(--tint);padding:.8rem 1rem;overflow-x:auto;font-size:.85rem}summary{cursor:pointer}
@media print{body{max-width:none}details{display:block}}
"""

__all__ = ["Section", "Table", "write_report"]
