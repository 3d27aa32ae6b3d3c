"""Paraphrases of texts in a JSONL file: a line {"text": "...", "paraphrases": ["...", ...]}, as `almanac paraphrase` writes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from research.data import user_files
from research.util.errors import UserError


def read(path: Path) -> dict[str, list[str]]:
    """The paraphrases of each text, in the file's order. Raises UserError for a line that is none, and for a text twice."""
    rows: dict[str, list[str]] = {}
    for place, row in user_files.json_lines(user_files.read(path)):
        fault, text, others = (row, "", []) if isinstance(row, str) else _parsed(row)
        if fault or text in rows:
            raise UserError(
                f"data.paraphrases = {path}, {place}: {fault or f'the text {text[:40]!r} stands above, too'}"
            )
        rows[text] = others
    return rows


def _parsed(row: Mapping) -> tuple[str, str, list[str]]:
    """-> what is wrong with a line, "" if nothing is; the text, its paraphrases."""
    text, others = row.get("text"), row.get("paraphrases")
    if isinstance(text, str) and isinstance(others, list) and all(isinstance(other, str) for other in others):
        return "", text, others
    return 'want {"text": "...", "paraphrases": ["...", ...]}', "", []


def of_texts(path: Path, texts: Sequence[str], clean: Callable[[str], str]) -> tuple[dict[str, list[str]], list[str]]:
    """The file's paraphrases of `texts`, all cleaned, and lines for a report that name the texts without any.

    A paraphrase that is its text, or empty, once it is cleaned is none. Raises UserError if no text has one.
    """
    file: dict[str, list[str]] = {}
    for text, others in read(path).items():
        cleaned = clean(text)
        new = [other for other in map(clean, others) if other and other != cleaned]
        file.setdefault(cleaned, []).extend(new)
    used = {text: file[text] for text in dict.fromkeys(texts) if file.get(text)}
    if not used:
        raise UserError(
            f"data.paraphrases = {path}: no paraphrase of any of the {len(texts):,} training texts is there"
        )
    missing = [repr(text[:60]) for text in dict.fromkeys(texts) if text not in used]
    count, unused = sum(map(len, used.values())), len(file.keys() - set(texts))
    lines = [
        f"others   {count:,} paraphrases of {len(used):,} training texts; {unused:,} texts of the file are none of these"
    ]
    return used, [*lines, *user_files.listed("without  a paraphrase:", missing)]
