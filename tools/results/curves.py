"""The curves of runs, as a PNG file and as inline SVG whose colours are CSS variables of the HTML report."""

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from research.run.run_logs import RunDir
from research.util import figures
from research.util.errors import UserError, nearest
from research.util.escape import visible
from research.util.markup import Markup, tag

# One hue per run, all of the same lightness; the second of each pair is for a dark page.
HUES = (
    ("#2b5f94", "#82b3e6"),
    ("#b4532a", "#ec9a70"),
    ("#3f7a4c", "#86c796"),
    ("#7a4b91", "#c4a0dc"),
    ("#94751b", "#dcbf62"),
    ("#2f7f82", "#74c8ca"),
    ("#a4384f", "#ea8da2"),
    ("#5d6470", "#b3bac6"),
)
INK, QUIET, RULE, PAPER = "#33312e", "#77736c", "#e4e0d9", "#fdfcfa"
DASHES: dict[str, Any] = {"valid": "-", "train": "-", "test": ":", "": "-"}
STEPS = (1, 2, 2.5, 5, 10)
RATES = {"examples_per_s": "examples/s", "tokens_per_s": "tokens/s", "mfu": "MFU, %"}
MAX_PANELS = 12  # the most small multiples, or names in a legend, that stay readable
MAX_DRAWN = 1e100  # larger magnitudes are not drawn; the tables have them
HEADLINES = ("loss", "frechet", "modes")  # the first of these that was measured has the main panel


def panels(runs: Sequence[RunDir], wanted: Sequence[str] = ()) -> list[str]:
    """The names of the panels, the main panel first: metrics without their split, then rates; or those that are wanted.

    A metric with a single value is left out, because it has no curve; the table has it. Raises UserError if one without a curve
    is wanted.
    """
    series = [(name, run.series[name]) for run in runs for name in run.drawn()]
    curves = [name for name, points in series if len({y for _, y in points if y == y}) > 1]
    names = dict.fromkeys(name.partition("/")[2] for name in curves or [series[0][0]])
    order = [*HEADLINES, *names]
    metrics = sorted(names, key=order.index)
    rates = [rate for rate in RATES if any(rate in run.timing for run in runs)]
    if unknown := [name for name in wanted if name not in {*names, *rates}]:
        raise UserError(f"--metrics: no curve of {unknown[0]!r}{nearest(unknown[0], [*metrics, *rates])}")
    if wanted:
        return list(wanted)
    return [*metrics[: MAX_PANELS + 1 - len(rates)], *rates]


def labels(runs: Sequence[RunDir]) -> list[str]:
    """A label for each run: the first of name, directory's name and path that differs between all runs."""
    for choice in ([r.name for r in runs], [r.path.resolve().name for r in runs]):
        if len(set(choice)) == len(runs):
            return choice
    return [str(run.path) for run in runs]


def png(runs: Sequence[RunDir], wanted: Sequence[str] = ()) -> bytes:
    """The panels on one sheet, as the bytes of a PNG file 1,280 pixels wide."""
    main, *small = panels(runs, wanted)
    handles = [_handle(*entry) for entry in key(runs)]
    columns = min(len(handles), 5)
    top = 0.7 + 0.22 * math.ceil(len(handles) / columns)
    rows = math.ceil(len(small) / 3)
    with mpl.rc_context(_style(9)):
        figure = Figure((8, top + 3.5 + 2.05 * rows), dpi=160)
        FigureCanvasAgg(figure)
        height = figure.get_figheight()
        title = runs[0].name if len({run.name for run in runs}) == 1 else f"{len(runs)} runs"
        figure.text(0.65 / 8, 1 - 0.42 / height, figures.label(title), fontsize=14)
        figure.legend(
            handles=handles,
            loc="upper left",
            ncols=columns,
            frameon=False,
            bbox_to_anchor=(0.65 / 8, 1 - 0.58 / height),
            borderpad=0,
            borderaxespad=0,
            handlelength=1.8,
            columnspacing=1.8,
        )
        _panel(_axes(figure, 0.65, top + 0.2, 7.1, 2.75), runs, main, wide=True)
        for i, name in enumerate(small):
            left, down = 0.65 + 2.575 * (i % 3), top + 3.8 + 2.05 * (i // 3)
            _panel(_axes(figure, left, down, 1.95, 1.3), runs, name)
        return figures.png(figure, metadata={"Software": None})


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes to a figure; sizes are in inches, from the upper left corner."""
    across, down = figure.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    return figure.add_axes(box)


def svg(runs: Sequence[RunDir], name: str, wide: bool) -> Markup:
    """One panel as an inline <svg> element whose colours are the page's CSS variables."""
    style = _style(12 if wide else 11)
    style |= {"svg.fonttype": "none", "svg.hashsalt": visible(name)}
    with mpl.rc_context(style):
        width, height = (9.2, 4.0) if wide else (4.4, 2.3)
        figure = Figure((width, height))
        axes = _axes(figure, 0.5, 0.4, width - 0.6, height - (0.9 if wide else 0.7))
        _panel(axes, runs, name, wide)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # the browser has fonts of its own
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.S)
    content = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    # Only inside tags: the text between them has names, which matplotlib has escaped.
    content = re.sub("<[^>]*>", lambda match: _themed(match[0]), content)
    box = re.search(r'viewBox="[0-9. ]+"', text)[0].split('"')[1]
    return tag("svg", Markup(content), role="img", aria_label=_title(runs, name), viewBox=box)


def _themed(element: str) -> str:
    """A tag of matplotlib's SVG with CSS variables for colours, and without attributes that an inline <svg> does not need."""
    element = re.sub(r' (?:width|height)="[\d.]+pt"| xmlns(?::\w+)?="[^"]*"| version="1.1"', "", element)
    element = re.sub(r'<g id="[\w.]+_\d+">', "<g>", element)
    element = re.sub(r"font(?:-family)?: [^;\"]*'[^;\"]*;? ?", _only_size, element)
    variables = {INK: "ink", QUIET: "quiet", RULE: "rule", PAPER: "paper"}
    variables |= {light: variable(i) for i, (light, _) in enumerate(HUES)}
    for colour, name in variables.items():
        element = element.replace(colour, f"var(--{name})")
    return element


def variable(hue: int | None) -> str:
    """The name of a hue's CSS variable; None: of the muted colour.

    >>> variable(2), variable(None)
    ('hue2', 'quiet')
    """
    return "quiet" if hue is None else f"hue{hue}"


def _only_size(font: re.Match[str]) -> str:
    size = re.search(r"[\d.]+px", font[0])
    return f"font-size: {size[0]}; " if size else ""


def _style(size: float) -> dict:
    return {
        "font.size": size,
        "font.family": figures.FAMILIES,
        "text.color": INK,
        "axes.edgecolor": RULE,
        "axes.linewidth": 0.8,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.8,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": QUIET,
        "ytick.labelcolor": QUIET,
        "ytick.major.size": 0,
        "xtick.major.size": 3,
        "axes.titlesize": size,
        "axes.titlelocation": "left",
        "axes.titlecolor": INK,
        "axes.titlepad": 9,
        "figure.facecolor": PAPER,
        "axes.facecolor": "none",
        "legend.fontsize": size - 1,
        "path.simplify_threshold": 0.3,
    }


def _title(runs: Sequence[RunDir], name: str) -> str:
    if name in RATES:
        return RATES[name]
    units = [unit for run in runs if (unit := run.said.get("units", {}).get(name))]
    return f"{name.replace('_', ' ')}, {units[0]}" if units else name.replace("_", " ")


def _panel(axes: Axes, runs: Sequence[RunDir], name: str, wide: bool = False) -> None:
    """Draws one metric, a line for each run and split, or one rate; baselines are dashed lines."""
    title = _title(runs, name)
    axes.set_title(figures.label(title, figures.MOST if wide else 21))
    values, last = [], 1
    for i, run in enumerate(runs):
        hue, lines = HUES[i % len(HUES)][0], _lines(run, name)
        for split, points in lines:
            steps = [step for step, _ in points]
            ys = [y if abs(y) < MAX_DRAWN else math.nan for _, y in points]
            values += [y for y in ys if y == y]
            last = max(last, steps[-1])
            faint = split in ("train", "") and (len(lines) > 1 or len(ys) > 30)
            axes.plot(
                steps,
                ys,
                color=hue,
                linestyle=DASHES.get(split, "--"),
                zorder=2 if faint else 3,
                linewidth=1.1 if faint else 1.9,
                alpha=0.45 if faint and len(lines) > 1 else 0.8 if faint else 1,
                solid_capstyle="round",
                solid_joinstyle="round",
            )
            if not faint:
                axes.plot(
                    steps[-1:],
                    ys[-1:],
                    "o",
                    color=hue,
                    markersize=4.5,
                    zorder=4,
                    markerfacecolor=PAPER if split == "test" else hue,
                    clip_on=False,
                )
        if len(runs) == 1 and lines:
            axes.set_title(number(lines[0][1][-1][1]), loc="right", color=hue, fontweight="bold")
    baselines = _baselines(runs, name)
    for label, value in baselines.items():
        axes.axhline(value, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        axes.annotate(
            f"{figures.label(label)} {tidy(f'{value:.4g}')}",
            (1, value),
            xytext=(-1, 3),
            ha="right",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=QUIET,
            fontsize=mpl.rcParams["font.size"] - 1,
        )
    _scale(axes, [*values, *baselines.values()], name)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(5 if wide else 4, integer=True, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))
    if wide:
        axes.set_xlabel("step", loc="right", color=QUIET)


def _scale(axes: Axes, values: list[float], name: str) -> None:
    """Sets the y axis: logarithmic if the largest value is over 30 times the smallest; from 0 for rates."""
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    if name in RATES:
        axes.set_ylim(0, 1.15 * max(values, default=1) or 1)
    elif values and min(values) > 0 and max(values) > 30 * min(values):
        decades = math.log10(max(values) / min(values))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 2.5 else (1,), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _lines(run: RunDir, name: str) -> list[tuple[str, list[tuple[int, float]]]]:
    """-> (split, points) of each split of a metric, or ("", points) of a rate; MFU in per cent."""
    if name in RATES:
        scale = 100 if name == "mfu" else 1
        return [("", [(s, scale * v) for s, v in run.timing[name]])] if name in run.timing else []
    return [
        (metric.partition("/")[0], run.series[metric]) for metric in run.drawn() if metric.partition("/")[2] == name
    ]


def _baselines(runs: Sequence[RunDir], name: str) -> dict[str, float]:
    return {
        label: value
        for run in runs
        for metric, baselines in run.said.get("baselines", {}).items()
        if metric.partition("/")[2] == name
        for label, value in baselines.items()
        if abs(value) < MAX_DRAWN
    }


def key(runs: Sequence[RunDir]) -> list[tuple[str, int | None, str]]:
    """The entries of the legend: (label, hue or None for all, split or "" for all)."""
    splits = dict.fromkeys(name.partition("/")[0] for run in runs for name in run.drawn())
    several = len(runs) > 1
    names = [(label, i % len(HUES), "") for i, label in enumerate(labels(runs))] if several else []
    return names + [(split, None if several else 0, split) for split in list(splits)[:MAX_PANELS]]


def _handle(label: str, hue: int | None, split: str) -> Line2D:
    train = split == "train"
    return Line2D(
        [],
        [],
        color=QUIET if hue is None else HUES[hue][0],
        label=figures.label(label),
        linestyle=DASHES.get(split, "--"),
        linewidth=1.1 if train else 2.2,
        alpha=0.55 if train else 1,
    )


def number(value: float) -> str:
    """A number with four significant digits, or as a whole number from 1,000 on.

    >>> number(1.5068), number(0.931), number(12_345.6), number(20.0)
    ('1.507', '0.9310', '12,346', '20')
    """
    if abs(value) >= 1e15:
        return tidy(f"{value:.3e}")
    if not math.isfinite(value) or value == int(value) or abs(value) >= 1000:
        return tidy(f"{value:,.0f}")
    return tidy(f"{value:#.4g}" if abs(value) >= 0.001 else f"{value:.3e}")


def short(value: float) -> str:
    """A number as the label of a tick.

    >>> short(0.25), short(2_500), short(1e6), short(3e-4)
    ('0.25', '2.5k', '1M', '3e−4')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return tidy(f"{value / size:.6g}{letter}")
    return tidy(f"{value:.6g}" if abs(value) >= 0.01 or value == 0 else f"{value:.3e}")


def tidy(text: str) -> str:
    """A formatted number with a true minus sign (U+2212) and without padding in its exponent.

    >>> tidy("-1.500e-04")
    '−1.5e−4'
    """
    return re.sub(r"\.?0*e([+-])0?", r"e\1", text).replace("e+", "e").replace("-", "\u2212")
