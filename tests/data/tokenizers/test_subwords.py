"""Byte pairs: by hand, and the published pieces of Multi30k."""

import pytest

from research.data import tfds_records
from research.data.tokenizers import subwords
from research.util.errors import UserError

# Sennrich et al. 2016, figure 1, ends written as subword-nmt does: low, lower, newest, widest -> these merges.
MERGES = "#version: 0.2\ne s\nes t</w>\nl o\nlo w</w>\n"


def test_merges_by_hand():
    split = subwords.Merges(MERGES).split
    assert split("lowest") == "lo@@ w@@ est"  # l o w e s t; es, est and lo are merged, low only at a word's end
    assert split("low  newest") == "low n@@ e@@ w@@ est"
    assert split("es") == "e@@ s"  # the s that ends a word is another
    assert split("x") == "x" and split(" ") == ""


def test_the_earliest_merge_comes_first_and_everywhere():
    split = subwords.Merges("#version: 0.2\na b\nb a\nab ab\n").split
    assert split("babab!") == "b@@ abab@@ !"  # b a b a b -> b ab ab -> b abab


def test_join_is_the_inverse():
    split = subwords.Merges(MERGES).split
    text = "the lowest low is the newest"
    assert subwords.join(split(text)) == text
    assert subwords.join("lo@@ w@@") == "low"  # a model may end within a word


@pytest.mark.parametrize("text, told", [("e s\n", "begin with '#version: 0.2'"), ("#version: 0.2\na b\nc\n", "line 3")])
def test_other_files_are_refused(text, told):
    with pytest.raises(UserError, match=told):
        subwords.Merges(text)


@pytest.mark.data
def test_published_pieces_come_out_equal(tmp_path, monkeypatch):
    from research.data.builders.multi30k_bpe import merges

    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    split = subwords.Merges(merges()).split
    for language in ("en", "de"):
        pieces = [row[language].decode() for row in tfds_records.examples("multi30k_bpe", "test_2016")]
        assert [split(subwords.join(line)) for line in pieces] == pieces
