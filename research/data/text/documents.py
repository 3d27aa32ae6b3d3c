"""A folder of documents as passages for retrieval: the paragraphs of its text files, with their positions in the files."""

from pathlib import Path
from typing import NamedTuple

from research.data import user_files
from research.data.text.spans import WORD
from research.util import home
from research.util.errors import UserError

SUFFIXES = (".txt", ".md")


class Passage(NamedTuple):
    """A paragraph of the file `source`, relative to the folder, from character `start`, not counting a byte order mark."""

    source: str
    start: int
    text: str


def load(folder: str | Path) -> tuple[list[Passage], list[str]]:
    """-> the paragraphs of all .txt and .md files at any depth, sorted by name, and a line for each file that was skipped.

    Files are UTF-8; hidden ones are ignored. Raises UserError if no file has a word.
    """
    root = home.expanded(folder, "--documents")
    if not root.is_dir():
        raise UserError(f"--documents={folder} is no folder")
    passages: list[Passage] = []
    paths, skipped = user_files.listing(root)
    for path in paths:
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() not in SUFFIXES:
            skipped.append(f"{name}: not {' or '.join(SUFFIXES)}")
            continue
        try:
            passages += paragraphs(name, user_files.text(path))
        except user_files.Unreadable as e:
            skipped.append(f"{name}: {e}")
    if not passages:
        why = skipped[0] if skipped else f"no {' or '.join(SUFFIXES)} file with a word in it"
        raise UserError(f"--documents={folder}: no text found ({why})")
    return passages, skipped


def paragraphs(name: str, text: str) -> list[Passage]:
    """The blocks between blank lines, stripped of white space; those without a word are left out.

    >>> [(p.start, p.text) for p in paragraphs("a.txt", "one\\n\\n  two\\nthree\\n")]
    [(0, 'one'), (7, 'two\\nthree')]
    """
    passages, at = [], 0
    for block in _blocks(text):
        start = at + len(block) - len(block.lstrip())
        if WORD.search(block):
            passages.append(Passage(name, start, block.strip()))
        at += len(block)
    return passages


def _blocks(text: str) -> list[str]:
    blocks = [""]
    for line in user_files.lines_with_ends(text):
        blocks[-1] += line
        if not line.strip():
            blocks.append("")
    return blocks
