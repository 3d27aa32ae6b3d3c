"""The scores of a chain with its true outputs, by hand, and files that are none."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from research.serving import oracle
from research.serving.chain import Row
from research.serving.stage import Output
from research.util.errors import UserError

STAGES = [SimpleNamespace(name=name, gives=gives) for name, gives in (("a", "text"), ("b", "class"), ("c", "record"))]


def outputs(*values):
    return [Output({}, value) for value in values]


def test_what_each_stage_brings_in():
    """The first stage has two of three words right, the second one of three on that, and two of three on the truth."""
    rows = [
        Row("0", None, {0: "cat", 1: "x"}, outputs("cat", "x"), on_truth={1: outputs("x")[0]}),
        Row("1", None, {0: "dogs", 1: "y"}, outputs("dog ", "z"), on_truth={1: outputs("y")[0]}),
        Row("2", None, {0: "bird", 1: "y"}, outputs("bird"), error="too long", on_truth={1: None}),
        Row("3", None, {}, outputs("ox", "x")),
    ]
    found = oracle.scores(STAGES, rows)
    assert [(score.stage, score.measure, score.rows, score.rows_on_truth) for score in found] == [
        (0, "exact", 3, 0), (0, "character error rate", 3, 0), (1, "exact", 3, 3)
    ]  # fmt: skip
    # "dog " for "dogs": one substitution of 3 + 4 + 4 characters.
    assert [score.value for score in found] == pytest.approx([2 / 3, 1 / 11, 1 / 3])
    assert [score.on_truth for score in found] == [None, None, pytest.approx(2 / 3)]


def test_a_row_without_an_output_is_wrong_even_if_nothing_should_come():
    (exact, characters) = oracle.scores(STAGES[:1], [Row("0", None, {0: ""}, error="broken")])
    assert (exact.value, characters.value) == (0, 0)


def test_pictures_have_the_psnr_of_all_their_pixels():
    """Errors of 51 / 255 in one picture and none in the other: a mean square of 0.02, 16.99 dB."""
    dark, light = (Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (0, 51))
    rows = [
        Row("0", None, {0: dark}, outputs(light)),
        Row("1", None, {0: dark}, outputs(dark)),
        Row("2", None, {0: dark}),
    ]
    stage = SimpleNamespace(name="p", gives="picture")
    (score,) = oracle.scores([stage], rows)
    assert (score.value, score.rows) == (pytest.approx(10 * np.log10(50)), 3)
    with pytest.raises(UserError, match="2 x 2 pixels, and the stage gives 3 x 2"):
        oracle.scores([stage], [Row("0", None, {0: dark}, outputs(dark.resize((3, 2))))])


def test_a_file_names_stages_by_number_or_name(tmp_path):
    Image.new("L", (2, 3), 7).save(tmp_path / "true.png")
    file = tmp_path / "truth.jsonl"
    file.write_text('{"1": "cat", "b": "x"}\n\n{}\n{"p": "true.png"}\n')
    first, second, third = oracle.read(file, [*STAGES[:2], SimpleNamespace(name="p", gives="picture")])
    assert (first, second) == ({0: "cat", 1: "x"}, {}) and np.asarray(third[2]).tolist() == [[7, 7]] * 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"d": "x"}, "line 1: no stage 'd'; known: a, b, c; numbers begin at 1"),
        ({"0": "x"}, "no stage '0'"),
        ({"a": 3}, "a gives text: want a text, not 3"),
        ({"c": "x"}, "c gives record, which is not compared"),
        ([], r"no JSON object but '\[\]'"),
    ],
)
def test_a_line_that_is_none_is_told(tmp_path, line, message):
    (tmp_path / "truth.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError, match=message):
        oracle.read(tmp_path / "truth.jsonl", STAGES)
    with pytest.raises(UserError, match="2 stages are called 'a'"):
        (tmp_path / "truth.jsonl").write_text('{"a": "x"}')
        oracle.read(tmp_path / "truth.jsonl", [STAGES[0], STAGES[0]])
