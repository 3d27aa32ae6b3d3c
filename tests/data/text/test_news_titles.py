import pytest

from research.data.text.news_titles import cleaned, part_of, split, summaries


@pytest.mark.parametrize(
    "text, clean",
    [
        ("China #39;s Jiang Zemin", "China's Jiang Zemin"),
        (" quot;I am, quot; he said,  quot;There #39;s", '"I am," he said, "There\'s'),
        ("the  #36;10 million prize; a bid of \\$1.35", "the $10 million prize; a bid of $1.35"),
        ("campaign finance &lt;b&gt;...&lt;/b&gt;", "campaign finance"),
        ("Dell Inc. &lt;DELL.O&gt;, the world's", "Dell Inc., the world's"),
        ('Google &lt;A HREF="http://x/q?t=G target=/s"&gt;GOOG.O&lt;/A&gt; up', "Google up"),
        ('customers. &lt;FONT face="verdana,MS Sans', "customers."),
        ("a second\\team of rocketeers", "a second team of rocketeers"),
        ("Size &#38; &amp; 5 < 6", "Size & & 5 < 6"),
        ("version #39; 7", "version' 7"),
    ],
)
def test_markup_by_hand(text, clean):
    assert cleaned(text) == clean


def test_repetitions_and_empty_sides_are_counted():
    rows = [
        ("one", "A"),
        ("two", "a"),
        ("ONE", "B"),
        ("", "C"),
        ("three", "D"),
        *((f"s{i}", f"t{i}") for i in range(200)),
    ]
    corpus = split(rows)
    assert corpus.report[-1] == "left out 1 rows with an empty side, 2 with an earlier row's title or description"
    kept = [pair for lines in corpus.parts.values() for pair in zip(lines.source, lines.target, strict=True)]
    assert len(kept) == 202 and {("one", "A"), ("three", "D")} < set(kept)
    for part, lines in corpus.parts.items():
        assert {part_of(title) for title in lines.target} == {part}
    sizes = {part: len(lines) for part, lines in corpus.parts.items()}
    assert sizes["train"] > 160 and min(sizes.values()) > 3  # about 14, 1 and 1 of 16


def test_the_part_is_that_of_the_hash():
    """The last hexadecimal digits of `printf f | sha256sum`, and so on: 1, 0, 0 ("strasse") and 6."""
    parts = [part_of(title) for title in ("F", "l", "Straße", "Fears for T N pension after talks")]
    assert parts == ["test", "valid", "valid", "train"]


@pytest.mark.data
def test_the_news_at_hand():
    parts = summaries().parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 15_121, "valid": 1_093, "test": 1_038}
    titles = [title.casefold() for lines in parts.values() for title in lines.target]
    assert len(set(titles)) == len(titles)
