"""Moses' tokens: lines of Multi30k, which come out as published."""

import pytest

from research.data import tfds_records
from research.data.tokenizers import moses, subwords


@pytest.mark.parametrize(
    "language, text, tokens",
    [
        ("en", "A man's 2,000 dogs, in a U.S. park.", "A man &apos;s 2,000 dogs , in a U.S. park ."),
        ("en", 'It says "Welcome". ', "It says &quot; Welcome . &quot;"),
        ("en", "a well-known bar & grill (closed)!", "a well-known bar &amp; grill ( closed ) !"),
        (
            "de",
            "Auf dem „Open“-Schild steht McDonald's.",
            "Auf dem &quot; Open &quot; -Schild steht McDonald &apos; s.",  # a letter and a full stop: an initial
        ),
        ("de", "  Ein\tMann   ", "Ein Mann"),
        ("de", 'Er sagt "ja."', "Er sagt &quot; ja &quot; ."),  # as Perl, whose rule needs what follows the quotation
        ("en", "the 80's, at 4 p.m. sharp", "the 80 &apos;s , at 4 p.m. sharp"),
        ("en", "", ""),
    ],
)
def test_tokens(language, text, tokens):
    assert moses.tokenize(text, language) == tokens


@pytest.mark.parametrize(
    "text",
    ["A man's hat, red and new.", 'He reads "the book" (twice)!', "bar & grill", "stop...", "well-known [sic]"],
)
def test_text_comes_back(text):
    assert moses.detokenize(moses.tokenize(text)) == text


@pytest.mark.data
@pytest.mark.parametrize("language, back", [("en", 998), ("de", 997)])
def test_published_tokens_come_out_equal(language, back, tmp_path, monkeypatch):
    """Of the 1,000 lines of test2016: all of them, and `back` as text."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    raw, published = (
        [row[language].decode().lower() for row in tfds_records.examples(name, "test_2016")]
        for name in ("multi30k", "multi30k_bpe")
    )
    words = [subwords.join(line) for line in published]
    assert [moses.tokenize(line, language) for line in raw] == words
    assert sum(moses.detokenize(b, language) == a.strip() for a, b in zip(raw, words, strict=True)) == back
