"""Reading CSV, TSV, JSONL and Parquet files, and saying what is wrong with one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import DataError
from plait.tables import column_names, read_table


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(path, required=("text", "label"), **options).data.to_pylist()
    return rows


EXPECTED = [{"text": "NA", "label": "null"}, {"text": "", "label": "007"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\nNA,null\n,007\n"),
        ("a.CSV", "\ufefftext,label,other\r\nNA,null,1\r\n\r\n,007,2"),
        ("a.tsv", "label\ttext\nnull\tNA\n007\t\n"),
        ("a.jsonl", '{"text": "NA", "label": "null"}\n\n{"label": "007", "text": ""}\n'),
    ],
)
def test_text_stays_text_in_every_format(tmp_path: Path, name: str, content: str) -> None:
    assert read(write(tmp_path / name, content)) == EXPECTED


def test_parquet_keeps_types_and_decodes_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", "b"]).dictionary_encode(), "label": [3, 1], "other": [0, 0]}), path)
    assert read(path) == [{"text": "a", "label": 3}, {"text": "b", "label": 1}]


def test_a_field_may_have_another_column_and_optional_fields_may_be_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sentence,label\nhi,x\n")
    table = read_table(path, required=("text",), optional=("label", "weight"), fields={"text": "sentence"})
    assert table.data.to_pylist() == [{"text": "hi", "label": "x"}]
    assert "label" in table
    assert "weight" not in table


def test_json_numbers_may_be_whole_and_fractional_and_lists_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": ["a", "b"], "label": 1}\n{"text": [], "label": 2.5}\n')
    assert read(path) == [{"text": ["a", "b"], "label": 1.0}, {"text": [], "label": 2.5}]


def test_a_type_that_the_task_asks_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,2.5\n")
    assert read(path, types={"label": pa.float64()}) == [{"text": "a", "label": 1.0}, {"text": "b", "label": 2.5}]


def test_tab_separated_text_knows_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"Hello, he said.\tx\n')
    assert read(path) == [{"text": '"Hello, he said.', "label": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.csv", 'text,label\n"two\nlines",x\n\n\na,y\nb,z\n', (2, 6, 7)),
        ("a.tsv", "text\tlabel\na\tx\nb\ty\nc\tz\n", (2, 3, 4)),
        ("a.jsonl", '{"text": "", "label": ""}\n\n' + '{"text": "a", "label": "x"}\n' * 2, (1, 3, 4)),
    ],
)
def test_every_row_knows_its_line(tmp_path: Path, name: str, content: str, lines: tuple[int, ...]) -> None:
    path = write(tmp_path / name, content)
    table = read_table(path, required=("text", "label"))
    assert [table.where(row) for row in range(3)] == [f"{path}:{line}" for line in lines]
    assert table.places([2, 0]) == {0: f"{path}:{lines[0]}", 2: f"{path}:{lines[2]}"}


def test_a_parquet_row_is_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", None]}), path)
    with pytest.raises(DataError, match=r"a\.parquet \(row 2\): 'text' has no value"):
        read_table(path, required=("text",))
    assert read_table(path, required=("text",), allow_null=True)["text"].null_count == 1


BAD = {
    "missing column": ("a.csv", "text,lable\na,b\n", r"a\.csv:1: no column 'label'.*'lable'", "data.fields.label="),
    "missing JSON field": ("a.jsonl", '{"text": "a", "lbl": 1}\n', r"a\.jsonl:1: no column 'label'", "data.fields"),
    "duplicate header": ("a.csv", "text,label,label\na,b,c\n", r"a\.csv:1: 2 columns are named 'label'", "rename"),
    "ragged line": ("a.csv", "text,label\na,b\n\nc\n", r"a\.csv:4: 1 cells .* 2 columns", "quote"),
    "ragged tabs": ("a.tsv", "text\tlabel\na\tb\tc\n", r"a\.tsv:2: 3 cells", "tabs"),
    "open quote": ("a.csv", 'text,label\na,b\n"c,d\ne,f\n', r"a\.csv:3: a quote is opened", "twice"),
    "not UTF-8": ("a.csv", b"text,label\na,b\ncaf\xe9,d\n", r"a\.csv:3: byte 4 .*0xe9.* not UTF-8", "iconv"),
    "JSON not UTF-8": ("a.jsonl", b'{"text": "\xff", "label": 1}\n', r"a\.jsonl:1: byte 11", "iconv"),
    "not JSON": ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', r"a\.jsonl:2: not JSON", "one object"),
    "not an object": ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected an object, found a list", "one object"),
    "huge number": ("a.jsonl", '{"text": "a", "label": 1' + "0" * 5000 + "}\n", r"a\.jsonl:1: not JSON", "object"),
    "mixed types": (
        "a.jsonl",
        '{"text": "a", "label": "1"}\n{"text": "b", "label": 2}\n',
        r"a\.jsonl:2: 'label' is a number \('2'\), but text on line 1",
        "write every 'label' as text",
    ),
    "null": ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', r"a\.jsonl:2: 'label' has no value", "remove"),
    "NaN": ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n', r"a\.jsonl:2: 'label'", "value"),
    "no bytes": ("a.csv", "", r"a\.csv is empty \(0 bytes\)", None),
    "no rows": ("a.csv", "text,label\n", r"a\.csv has no rows", None),
    "only blank lines": ("a.jsonl", "\n\n", r"a\.jsonl has no rows", None),
    "damaged Parquet": ("a.parquet", "PAR1 and nothing more", r"a\.parquet is not a Parquet file", None),
    "unknown format": ("a.xlsx", "x", r"a\.xlsx: \.xlsx is no table", ".csv, .tsv, .jsonl"),
}


@pytest.mark.parametrize(("name", "content", "message", "hint"), BAD.values(), ids=BAD)
def test_bad_files_are_named_with_line_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str, hint: str | None
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


def test_a_value_of_the_wrong_type_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"a\nb",1\nc,two\n')
    with pytest.raises(DataError, match=r"a\.csv:4: 'label' is 'two'; expected double"):
        read(path, types={"label": pa.float64()})


def test_a_misspelt_field_option_gets_its_near_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match=r"data\.fields\.lable") as caught:
        read(path, fields={"lable": "label"})
    assert "'label'" in str(caught.value.hint)


def test_a_missing_file_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: no such file"):
        read(tmp_path / "nothing.csv")


def test_a_task_that_uses_all_columns_asks_for_their_names(tmp_path: Path) -> None:
    pq.write_table(pa.table({"size": [1], "label": ["a"]}), tmp_path / "a.parquet")
    write(tmp_path / "a.csv", "size,label\n1,a\n")
    write(tmp_path / "a.jsonl", '\n{"size": 1, "label": "a"}\n')
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        assert column_names(tmp_path / name) == ["size", "label"]
    for name, text, words in (
        ("b.csv", "", "is empty"),
        ("b.jsonl", "\n", "is empty"),
        ("b.parquet", "size,label", "not a Parquet file"),
        ("b.txt", "size", "is no table that can be read"),
    ):
        with pytest.raises(DataError, match=words):
            column_names(write(tmp_path / name, text))
    with pytest.raises(DataError, match=r"nothing\.csv: no such file"):
        column_names(tmp_path / "nothing.csv")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells.filter(bool)), min_size=1, max_size=8))
def test_what_python_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    expected = [{"text": text, "label": label} for text, label in rows]
    assert read(write(folder / "a.csv", text.getvalue())) == expected
    assert read(write(folder / "a.jsonl", "".join(json.dumps(row) + "\n" for row in expected))) == expected
