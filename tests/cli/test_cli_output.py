"""The answer of a command as one line of JSON, and as aligned text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from plait.cli.output import aligned, encoded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"loss": math.nan, "rate": math.inf}, {"loss": None, "rate": None}),
        ({"a": np.float32(0.5), "b": np.arange(2), "c": Path("x")}, {"a": 0.5, "b": [0, 1], "c": "x"}),
        ([np.float32("nan")], [None]),
        ({"Länder": ("Österreich",)}, {"Länder": ["Österreich"]}),
    ],
)
def test_anything_that_a_plugin_returns_becomes_json(value: object, expected: object) -> None:
    assert json.loads(encoded(value)) == expected


def test_a_file_name_that_is_no_text_survives() -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    line = encoded({"input": name})
    assert json.loads(line.encode("utf-8")) == {"input": name}


def test_text_stays_readable() -> None:
    assert encoded("Österreich") == '"Österreich"'


def test_columns_line_up() -> None:
    assert aligned([["A", "LONG"], ["bcd", "e"]]) == ["A    LONG", "bcd  e"]
