"""What a terminal would obey is shown."""

import json

import pytest

from research.util.escape import TEXT, json_line, visible


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain, é, 日本, 🙂", "plain, é, 日本, 🙂"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\rb\x07\x00\x7f", r"a\rb\x07\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),  # one character is a terminal's whole escape
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("\u2066a\u2069\u200f\u2028", r"\u2066a\u2069\u200f\u2028"),
        ("\ud800", r"\ud800"),  # cannot be written as UTF-8
        ("two\nlines", r"two\nlines"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


def test_a_text_keeps_its_lines():
    assert visible("a\n\tb\x1b", keep=TEXT) == "a\n\tb\\x1b"


def test_a_line_of_json_comes_back_as_it_was():
    value = {"file": "a\x9b\u202e\x1b\n", "label": "日本 \x7f"}
    line = json_line(value)
    assert json.loads(line) == value and "日本" in line
    assert line == visible(line)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_line_of_json_is_valid_in_any_encoding(encoding):
    value = {"file": "caf\u00e9\udcff", "text": "\u4e2d \x7f \u2028"}
    line = json_line(value, encoding)
    assert json.loads(line.encode(encoding)) == value and line.isprintable()
    assert ("\u4e2d" in line) == (encoding == "utf-8")
