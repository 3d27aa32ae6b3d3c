"""Both ways of a pair: the parts, the tags, and the lines that begin with none."""

import dataclasses

import numpy as np
import pytest

from experiments.translation import average_checkpoints
from research.data.text.line_forms import Plain
from research.util.errors import UserError
from tests.data.text.test_translation import load, write


def both(tmp_path, **cfg):
    write(
        tmp_path,
        train_en="a b\nb\n",
        train_de="x\ny x\n",
        valid_en="a\n\n",
        valid_de="y\nx\n",
        test_en="b\n",
        test_de="x\n",
    )
    return load(**{"source": "files", "pair": "en-de", "path": str(tmp_path), "both_ways": True} | cfg)


def test_parts_by_hand(tmp_path):
    data = both(tmp_path)
    lines = {part: (lines.source, lines.target) for part, lines in data.corpus.parts.items()}
    assert lines == {
        "train": (["<2de> a b", "<2de> b", "<2en> x", "<2en> y x"], ["x", "y x", "a b", "b"]),
        "valid": (["<2de> a", "", "<2en> y", "<2en> x"], ["y", "x", "a", ""]),
        "valid_en_de": (["<2de> a", ""], ["y", "x"]),
        "valid_de_en": (["<2en> y", "<2en> x"], ["a", ""]),
        "test_en_de": (["<2de> b"], ["x"]),
        "test_de_en": (["<2en> x"], ["b"]),
    }
    assert data.one_way == ["valid_en_de", "valid_de_en", "test_en_de", "test_de_en"]
    assert average_checkpoints.splits(data.one_way) == {
        "final_valid_en_de": "valid_en_de", "final_valid_de_en": "valid_de_en", "test_en_de": "test_en_de",
        "test_de_en": "test_de_en",
    }  # fmt: skip


def test_a_tag_is_one_token_after_the_vocabulary_of_one_way(tmp_path):
    data, one = both(tmp_path), both(tmp_path, both_ways=None)
    assert one.target.words == ("<pad>", "<unk>", "<bos>", "<eos>", "b", "x", "a", "y") and data.target.size == 10
    assert data.source is data.target and data.target.special["2de"] == 8 and data.target.special["2en"] == 9
    source = data.parts["train"].gather(np.arange(4), length=4)["source"]
    np.testing.assert_array_equal(source, [[8, 6, 4, 3], [8, 4, 3, 0], [9, 5, 3, 0], [9, 7, 5, 3]])
    np.testing.assert_array_equal(
        data.codec.encode("<2de> b\n\n <2en> \n<2en> x y\n")["source"][:, :2], [[8, 4], [3, 0], [3, 0], [9, 5]]
    )


def test_a_line_says_its_language(tmp_path):
    data = both(tmp_path)
    for line in ("<2fr> a", "a", "<2de>a", "2de a"):
        with pytest.raises(UserError) as caught:
            data.codec.encode(f"<2de> b\n{line}")
        assert str(caught.value) == f"the line {line!r} begins with no language: put <2de> or <2en> before it"


def test_each_way_restores_its_own_words(tmp_path):
    data = both(tmp_path)

    class Marked(Plain):
        def __init__(self, name):
            object.__setattr__(self, "name", name)

        def restore(self, words):
            return f"{self.name} {words}"

    form = dataclasses.replace(data.codec.form, forward=Marked("en_de"), backward=Marked("de_en"))
    codec = dataclasses.replace(data.codec, form=form)
    outputs = {"tokens": np.array([[5, 3], [4, 3], [7, 3]]), "asked": np.array([8, 9, 3])}  # the last line was blank
    assert codec.decode(outputs) == {"lines": ["en_de x", "de_en b", "en_de y"]}


def test_a_table_and_digits_are_turned_round(tmp_path):
    (tmp_path / "c.tsv").write_text("a\tx\nb\ty\n")
    data = load(source="files", pair="en-de", path=str(tmp_path / "c.tsv"), valid_fraction=0.5, both_ways=True)
    assert data.corpus.parts["valid_de_en"].source == ["<2en> y"]
    numbers = load(source="numbers", pair="digits-words", both_ways=True).corpus.parts
    assert numbers["test_words_digits"].target == [
        s.removeprefix("<2words> ") for s in numbers["test_digits_words"].source
    ]


def test_what_has_one_way_alone(tmp_path):
    with pytest.raises(UserError, match="data.both_ways reads what it writes: set model.shared=True"):
        both(tmp_path, joint=False)
    with pytest.raises(UserError, match="data.both_ways = 'yes': True, or None"):
        both(tmp_path, both_ways="yes")
    with pytest.raises(
        UserError, match="ag_news_titles has no pairs title-description \\(.*\\); leave data.both_ways None"
    ):
        from research.data.text import directions
        from research.data.text.parallel_corpora import Corpus

        directions.both({"source": "ag_news_titles", "pair": "description-title"}, Corpus({}, []))
