"""A folder of documents as passages to search in: the paragraphs of its text files, each with its place in its file."""

from pathlib import Path
from typing import NamedTuple

from research.data import user_files
from research.data.text.spans import WORD
from research.util.errors import UserError

SUFFIXES = (".txt", ".md")


class Passage(NamedTuple):
    """A paragraph: the file's name in the folder, and where it begins there, in characters after a byte order mark."""

    source: str
    start: int
    text: str


def load(folder: str | Path) -> tuple[list[Passage], list[str]]:
    """-> paragraphs of every .txt and .md file in any depth, by name, and a line for each file that was left out.

    Files are UTF-8; hidden ones are not looked at. UserError where there is no word in them all.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"--documents={folder} is no folder")
    found, skipped = [], []
    for path in user_files.visible(root):
        name = path.relative_to(root).as_posix()
        if path.suffix not in SUFFIXES:
            skipped.append(f"{name}: not {' or '.join(SUFFIXES)}")
            continue
        try:
            found += paragraphs(name, path.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError as e:
            skipped.append(f"{name}: not UTF-8 (byte 0x{e.object[e.start]:02x} at {e.start:,})")
        except OSError as e:
            skipped.append(f"{name}: {e.strerror}")
    if not found:
        why = skipped[0] if skipped else f"no {' or '.join(SUFFIXES)} file with a word in it"
        raise UserError(f"--documents={folder}: no text found ({why})")
    return found, skipped


def paragraphs(name: str, text: str) -> list[Passage]:
    """What blank lines part, without white space around it; what holds no word is left out."""
    found, at = [], 0
    for block in _blocks(text):
        start = at + len(block) - len(block.lstrip())
        if WORD.search(block):
            found.append(Passage(name, start, block.strip()))
        at += len(block)
    return found


def _blocks(text: str) -> list[str]:
    blocks = [""]
    for line in text.splitlines(keepends=True):
        blocks[-1] += line
        if not line.strip():
            blocks.append("")
    return blocks
