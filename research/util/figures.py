"""Figures of matplotlib with names that others wrote, saved whole or not at all."""

import io
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from research.util.escape import visible
from research.util.files import write_bytes

MOST = 80  # characters of a name: a picture has no place for more


def label(name: object, most: int = MOST) -> str:
    """`name` as matplotlib shows it unchanged, cut to `most` characters.

    Dollars would begin a formula, and a legend leaves out a name that begins with an underscore.
    """
    text = visible(name)
    text = (text if len(text) <= most else f"{text[: most - 3]}...").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def png(figure: Figure, **options: Any) -> bytes:
    """The figure as a PNG file; `options` are those of `savefig`."""
    out = io.BytesIO()
    figure.savefig(out, format="png", **options)
    return out.getvalue()


def save(figure: Figure, path: str | PathLike, **options: Any) -> None:
    """Writes the figure as a PNG file in place of what has the name; a link there is replaced, not followed."""
    write_bytes(Path(path), png(figure, **options))
