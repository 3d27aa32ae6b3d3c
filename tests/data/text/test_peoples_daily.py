"""The People's Daily: how its lines are read, and what its copy holds."""

import pytest

from research.data.text import peoples_daily

LINES = """迈向/v  世纪/n
[中国/ns  政府/n]nt  ，/w
[/w  注/n  ]/w
迈向/v  世纪/vn
无标  词/n

//w  甲/n
乙/nr
"""


def test_lines_are_words_with_tags():
    parts, report = peoples_daily.split(LINES)
    assert parts["train"] == [
        [("迈向", "v"), ("世纪", "n")],
        [("中国", "ns"), ("政府", "n"), ("，", "w")],  # noqa: RUF001
        [("[", "w"), ("注", "n"), ("]", "w")],
    ]
    assert (parts["valid"], parts["test"]) == ([[("/", "w"), ("甲", "n")]], [[("乙", "nr")]])
    assert report == [
        "source   People's Daily, January 1998: 5 paragraphs, 1 repetitions left out",
        "skipped  1",
        "         line 5: '无标' is no word with a tag",
    ]


def test_characters_of_words():
    assert peoples_daily.characters(["一九九八年", "新年", "的"]) == list(
        zip("一九九八年新年的", "BMMMEBES", strict=True)
    )


@pytest.mark.data
def test_the_copy():
    """19,484 lines, none of them odd; no paragraph of train is in another part."""
    parts, report = peoples_daily.load()
    assert report == ["source   People's Daily, January 1998: 18,999 paragraphs, 485 repetitions left out"]
    assert [len(part) for part in parts.values()] == [15_199, 1_900, 1_900]
    assert parts["train"][0][:4] == [("迈向", "v"), ("充满", "v"), ("希望", "n"), ("的", "u")]
    words = [tuple(word for word, _ in paragraph) for part in parts.values() for paragraph in part]
    assert len(set(words)) == len(words) and sum(map(len, words)) == 1_119_295
    tags = {tag for part in parts.values() for paragraph in part for _, tag in paragraph}
    assert len(tags) == 44 and "".join(sorted({*map(peoples_daily.main_tag, tags)})) == "abcdefhijklmnopqrstuvwyz"
