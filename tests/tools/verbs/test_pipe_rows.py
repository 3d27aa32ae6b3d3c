"""Rows of a chain from lines and JSON lines; what cannot be read is its row's error."""

from types import SimpleNamespace

import numpy as np
import pytest

from research.util.errors import UserError
from tools.verbs import pipe_rows


def read_number(file):
    if not file.name.isdigit():
        raise UserError(f"{file} is no number")
    return int(file.name)


TEXT = SimpleNamespace(takes="text")
NUMBER = SimpleNamespace(takes="number", codec=SimpleNamespace(read=read_number))


def test_the_lines_of_a_text(tmp_path):
    """A line separator of Unicode's is a character, as for every reader of this project."""
    (tmp_path / "a").write_bytes("one\r\n\ntwo\u2028three".encode())
    rows = list(pipe_rows.read(TEXT, None, str(tmp_path / "a"), None))
    assert [(row.name, row.value) for row in rows] == [("line 1", "one"), ("line 2", ""), ("line 3", "two\u2028three")]


def test_lines_that_are_files_and_files(tmp_path):
    (tmp_path / "a").write_text("12\nno\n")
    for rows in (
        pipe_rows.read(NUMBER, None, str(tmp_path / "a"), None), pipe_rows.read(NUMBER, ["12", "no"], "-", None)
    ):  # fmt: skip
        first, second = rows
        assert (first.name, first.value, second.name) == ("12", 12, "no") and str(second.value) == "no is no number"


def test_json_lines(tmp_path):
    (tmp_path / "a").write_text('"a\\nb"\n[1, 2]\n{"a"\n{"b": 1}\n')
    text, numbers, broken, other = (row.value for row in pipe_rows.read(TEXT, None, "-", str(tmp_path / "a")))
    assert text == "a\nb" and np.array_equal(numbers, [1, 2])
    assert "not JSON" in str(broken) and "an object is" in str(other)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        list(pipe_rows.read(TEXT, None, str(tmp_path / "a"), None))
