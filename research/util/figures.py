"""Figures of matplotlib with names that others wrote, saved whole or not at all.

matplotlib's own font has no Chinese, Japanese or Korean characters: those of FALLBACKS that the machine has draw them. What no
font draws would be a box; `label` writes it as its code point, and `drawable` says so beforehand.
"""

import functools
import io
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from research.util.escape import visible
from research.util.files import write_bytes

MOST = 80  # characters of a name: a picture has no place for more
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS", "Microsoft YaHei", "SimHei",
)  # fmt: skip
FAMILIES = ["sans-serif", *(name for name in FALLBACKS if name in font_manager.get_font_names())]
mpl.rcParams["font.family"] = FAMILIES


@functools.cache
def _code_points() -> frozenset[int]:
    """What the fonts of pictures draw."""
    fonts = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in FAMILIES]
    return frozenset(code for font in fonts for code in FT2Font(font).get_charmap())


def drawable(text: str) -> bool:
    """Whether this machine's fonts have every character of a text."""
    return _code_points().issuperset(map(ord, text))


def label(name: object, most: int = MOST) -> str:
    """`name` as matplotlib shows it unchanged, cut to `most` characters.

    Dollars would begin a formula, and a legend leaves out a name that begins with an underscore. A character that no font has
    is written as its code point; in an SVG whose text stays text it is left to the browser.
    """
    parts = list(visible(name))
    if mpl.rcParams["svg.fonttype"] != "none":
        parts = [part if drawable(part) else part.encode("unicode_escape").decode() for part in parts]
    text = "".join(parts)
    if len(text) > most:
        while sum(map(len, parts)) > most - 3:
            parts.pop()
        text = "".join([*parts, "..."])
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def png(figure: Figure, **options: Any) -> bytes:
    """The figure as a PNG file; `options` are those of `savefig`."""
    out = io.BytesIO()
    figure.savefig(out, format="png", **options)
    return out.getvalue()


def save(figure: Figure, path: str | PathLike, **options: Any) -> None:
    """Writes the figure as a PNG file in place of what has the name; a link there is replaced, not followed."""
    write_bytes(Path(path), png(figure, **options))
