"""AG News' descriptions and titles as pairs to summarise, without markup and without repetitions."""

import csv
import hashlib
import html
import io
import re

from research.data import download
from research.data.text.clean import normalise
from research.data.text.parallel_corpora import Corpus, Lines

PARTS = 16  # of the hashes: one to validate on, one to test on, the others to train on
_LOST = re.compile(r" ?(?<![&\w])(#\d{2,4}|quot|amp|lt|gt);")  # an entity without its &, of which a space was made
_LINK = re.compile(r"<A HREF[^<>]*>[^<>]*</A>")  # from a ticker
_MARKUP = re.compile(
    r"<[A-Za-z/][^<>]*(>|$)"
)  # a tag, a ticker as <DELL.O>, or the beginning of what the text was cut in
_SPACE = re.compile(r" +(?=[,;.](\s|$))")  # where a ticker was
_ELLIPSIS = re.compile(r"\s*\.\.\.$")


def cleaned(text: str) -> str:
    r"""Text without entities, markup, stock tickers in angle brackets, backslashes and a final "...".

    >>> cleaned(r"Messier #39;s \$1 bid for Dell Inc. &lt;DELL.O&gt; was\"low &lt;b&gt;...&lt;/b&gt;")
    'Messier\'s $1 bid for Dell Inc. was "low'
    """
    text = text.replace("\\$", "$").replace("\\", " ")
    text = html.unescape(_LOST.sub(r"&\1;", text))
    text = _MARKUP.sub(" ", _LINK.sub(" ", text))
    return _ELLIPSIS.sub("", _SPACE.sub("", normalise(text)))


def summaries() -> Corpus:
    """Descriptions and their titles, of the 17,599 rows at hand: the part of the training set, and the test set.

    Left out and counted: rows with an empty side, and rows whose title or description an earlier row has, in any case of
    letters. A row's part is given by the SHA-256 of its title: the data have no official parts for summaries.
    """
    from research.data.builders.ag_news_part import AgNewsPart

    paths = download.fetch(AgNewsPart.FOLDER, AgNewsPart.FILES)
    rows: list[list[str]] = []
    for file in AgNewsPart.FILES:
        rows += csv.reader(io.StringIO(download.read(paths[file.name]).decode("utf-8"), newline=""))
    return split([(cleaned(row[2]), cleaned(row[1])) for row in rows])


def split(pairs: list[tuple[str, str]]) -> Corpus:
    """Pairs of description and title -> their parts."""
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    empty = repeated = 0
    for pair in pairs:
        keys = {side.casefold() for side in pair}
        if not all(pair):
            empty += 1
        elif keys & seen:
            repeated += 1
        else:
            parts[part_of(pair[1])].append(pair)
        seen |= keys
    report = [
        "source   ag_news_summaries: descriptions of news and their titles, of 17,599 rows of AG News",
        f"left out {empty:,} rows with an empty side, {repeated:,} with an earlier row's title or description",
    ]
    return Corpus({name: Lines(*map(list, zip(*rows, strict=True))) for name, rows in parts.items() if rows}, report)


def part_of(title: str) -> str:
    """The part of a title, by the SHA-256 of its case-folded text modulo `PARTS`."""
    number = int(hashlib.sha256(title.casefold().encode()).hexdigest(), 16) % PARTS
    return {0: "valid", 1: "test"}.get(number, "train")
