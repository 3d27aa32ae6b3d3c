"""Explanations as HTML: a page with coloured tokens, bar charts and attention maps, without scripts or external resources."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from research.util import figures, markup
from research.util.escape import visible
from research.util.markup import tag

FOR, AGAINST = "#c8553d", "#2a6f97"  # raises the score, lowers it
MOST_LABELS = 40  # tokens named along an axis
NO_FONT = (
    "the pictures number the words, some of which no font of this machine has: install one, such as fonts-noto-cjk"
)
_CSS = (
    "body{font:16px/1.7 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}"
    "h1{font-size:1.2rem}p.facts{color:#666;font-size:.9rem}.text span{padding:.1em .15em;border-radius:.2em}"
    "table{border-collapse:collapse;font-size:.9rem}td{padding:.1rem .8rem .1rem 0}td.n{text-align:right}"
    "img{max-width:100%}"
)


def page(
    title: str,
    facts: Sequence[str],
    words: Sequence[str],
    scores: np.ndarray,
    images: Mapping[str, bytes] | None = None,
    apart: str = " ",
) -> str:
    """A self-contained HTML page: facts, the text with each word coloured by its score f[t], a table, PNG images.

    The score of the largest magnitude has the full colour: red for positive, blue for negative. `apart` separates words.
    """
    scores = np.asarray(scores, np.float64)
    top = np.abs(scores).max(initial=0) or 1.0
    spans = []
    for word, score in zip(words, scores, strict=True):
        colour = _rgba(FOR if score > 0 else AGAINST, abs(score) / top)
        spans.append(tag("span", word, style=f"background:{colour}", title=f"{score:.4g}"))
    order = np.argsort(-np.abs(scores), kind="stable")[:20]
    numbers, rows = not _drawable(words), []
    for i in order:
        number = [tag("td", str(i + 1), class_="n")] if numbers else []
        rows.append(tag("tr", *number, tag("td", words[i]), tag("td", f"{scores[i]:.4g}", class_="n")))
    sections = [markup.join(tag("h2", name), markup.image(png, name)) for name, png in (images or {}).items()]
    return markup.page(
        title,
        _CSS,
        tag("h1", title),
        *(tag("p", fact, class_="facts") for fact in [*facts, *([NO_FONT] if numbers and images else [])]),
        tag("p", markup.join(*spans, by=apart), class_="text"),
        tag("table", *rows),
        *sections,
    )


def _rgba(colour: str, strength: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{0.85 * strength:.3f})"


def bars(words: Sequence[str], scores: np.ndarray, title: str) -> bytes:
    """A bar chart with one bar per token, as PNG."""
    scores = np.asarray(scores, np.float64)
    figure = Figure(figsize=(min(2 + 0.28 * len(words), 14), 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.bar(range(len(words)), scores, color=[FOR if s > 0 else AGAINST for s in scores])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_title(figures.label(title), fontsize=9)
    _name(axes.set_xticks, words, rotation=60, ha="right", rotation_mode="anchor")
    return figures.png(figure, dpi=100)


def overlays(pictures: np.ndarray, maps: np.ndarray, titles: Sequence[str], frames: int = 1) -> bytes:
    """Pictures f[N, Y, X, C] in 0..1, their maps f[N, Y, X] and both together, as PNG: one beside its map, several above theirs.

    The maps of `frames` that follow one another have one scale. If it has two signs, red is for, blue against.
    """
    count = len(pictures)
    figure = Figure(figsize=(9, 3.4) if count == 1 else (1 + 1.9 * count, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(*((1, 3) if count == 1 else (3, count)), squeeze=False).reshape(3, count)
    for i, (column, picture, pixels, title) in enumerate(zip(grid.T, pictures, maps, titles, strict=True)):
        clip = slice(i - i % frames, i - i % frames + frames)
        top = np.abs(maps[clip]).max() or 1.0
        signed = maps[clip].min() < 0
        colours = dict(cmap="RdBu_r", vmin=-top, vmax=top) if signed else dict(cmap="inferno", vmin=0, vmax=top)
        column[0].imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
        drawn = column[1].imshow(pixels, **colours)
        column[2].imshow(picture.mean(-1), cmap="gray", vmin=0, vmax=1)
        column[2].imshow(pixels, alpha=np.sqrt(np.abs(pixels) / top) * 0.8, **colours)
        if count > 1:
            column[0].set_title(figures.label(title), fontsize=8)
        if i % frames == 0:
            where = "right" if count == 1 else "bottom"
            figure.colorbar(drawn, ax=list(grid[1, clip]), shrink=0.8, location=where)
    for axes in grid.ravel():
        axes.set_axis_off()
    if count == 1:
        figure.suptitle(figures.label(titles[0]), fontsize=9)
    return figures.png(figure, dpi=100)


def gallery(pictures: np.ndarray, titles: Sequence[str]) -> bytes:
    """Pictures f[N, Y, X, C] in 0..1 with their titles, five in a row, as PNG."""
    columns = min(5, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, picture, title in zip(grid, pictures, titles, strict=False):
        axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(figures.label(title), fontsize=8)
    return figures.png(figure, dpi=100)


def heads(words: Sequence[str], maps: Mapping[str, np.ndarray]) -> bytes:
    """Maps {layer: f[H, T, S]} as a PNG grid, one row per layer and one column per head; darker is a larger weight."""
    columns = max(len(layer) for layer in maps.values())
    size = 1.6 if columns * len(maps) > 4 else 3.2
    figure = Figure(figsize=(size * columns + 1, size * len(maps) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(maps), columns, squeeze=False)
    for row, (name, layer) in zip(grid, maps.items(), strict=True):
        for head, axes in enumerate(row):
            axes.set_axis_off()
            if head < len(layer):
                axes.set_axis_on()
                axes.imshow(layer[head], cmap="Blues", vmin=0, vmax=max(float(layer[head].max()), 1e-9))
                axes.set_title(figures.label(f"{name}, head {head}"), fontsize=7)
                axes.set_xticks([])
                axes.set_yticks([])
                if len(words) <= MOST_LABELS and size > 2:
                    _name(axes.set_xticks, words, rotation=60, ha="right", rotation_mode="anchor")
                    _name(axes.set_yticks, words)
    return figures.png(figure, dpi=100)


def _name(set_ticks, words: Sequence[str], **options) -> None:
    """Names the places of an axis by their words, or by their numbers from 1 if a word has a character that no font draws."""
    if not _drawable(words):
        words, options = [str(i + 1) for i in range(len(words))], {}
    at = range(0, len(words), -(-len(words) // MOST_LABELS))
    set_ticks(at, [figures.label(words[i], 16) for i in at], fontsize=7, **options)


def _drawable(words: Sequence[str]) -> bool:
    return figures.drawable(visible("".join(words)))
