"""Text that others wrote, made safe to show: what a terminal or a browser would obey is written out."""

import json
import re
from typing import Any

TEXT = "\n\t"  # what stays in a text of several lines
# Control characters (C0, DEL, C1), what changes the direction of writing, line separators, halves of surrogate pairs.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object, keep: str = "") -> str:
    r"""`text` with control characters written out: ESC as \x1b, a right-to-left override as \u202e.

    Everything from a run directory, a file's name or a stranger's file passes through here before it is printed. `keep` names
    characters that stay: TEXT in a text of several lines.
    """
    return _OBEYED.sub(lambda m: m[0] if m[0] in keep else m[0].encode("unicode_escape").decode(), str(text))


def json_line(value: Any, encoding: str | None = None) -> str:
    """`value` as one line of JSON, letters of every script as they are and control characters escaped as JSON does.

    If `encoding`, that of the stream it goes to, lacks one of the letters, all beyond ASCII are escaped too.
    """

    def line(ascii_alone: bool) -> str:
        return _OBEYED.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(value, ensure_ascii=ascii_alone))

    try:
        line(False).encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return line(True)
    return line(False)
