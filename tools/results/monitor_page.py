"""The page of `almanac monitor`: self-contained, with curves as SVG and without a script. See report.py for its safety."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.serving.monitor.alerts import moment
from research.util import markup
from research.util.files import write_errors, write_text
from research.util.markup import Markup, tag
from tools.results import report_style

FILE = "monitor.html"
CSS = """
h3 { font-size: 1rem; font-weight: 600; margin: 2.2rem 0 .4rem; }
svg.spark { width: 11rem; height: 1.9rem; display: block; overflow: visible; }
.spark polyline { fill: none; stroke: var(--hue0); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.spark line { stroke: var(--quiet); stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.alarm { color: var(--hue6); font-weight: 600; }
"""
NOTHING = Markup()
POINTS = 120  # of a curve, at most


def write(numbers: Mapping[str, Any], folder: Path) -> Path:
    """Writes the page of a summary to `folder` -> its path. Raises UserError if it cannot be written."""
    path = folder / FILE
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, page(numbers))
    return path


def page(numbers: Mapping[str, Any]) -> str:
    """What `summary.summary` returned, as HTML."""
    parts = [_head(numbers)]
    for model in numbers["models"]:
        parts.append(tag("section", tag("h2", f"{model['model']} ", tag("small", model["version"])), _model(model)))
    parts += [_section("Requests", _routes(numbers["routes"])), _section("Servers", _servers(numbers["servers"]))]
    body = tag("main", markup.join(*parts, by="\n"))
    return markup.page("Monitor", report_style.css() + CSS, body)


def _section(title: str, content: Markup) -> Markup:
    return tag("section", tag("h2", title), content)


def _head(numbers: Mapping[str, Any]) -> Markup:
    failed = sum(each["requests"] for each in numbers["routes"] if each["status"] >= 500 or each["status"] == 0)
    standing = sum(alarm["stands"] for model in numbers["models"] for alarm in model.get("alarms", ()))
    figures = {
        "requests": f"{numbers['requests']:,}",
        "failed": f"{failed / numbers['requests']:.2%}" if numbers["requests"] else "-",
        "alarms now": str(standing),
    }
    span = f"{moment(numbers['first'])} to {moment(numbers['last'])} UTC" if numbers["requests"] else "no request yet"
    values = [tag("div", tag("dt", name), tag("dd", value)) for name, value in figures.items()]
    return tag("header", tag("h1", "Monitor"), tag("p", span), tag("dl", *values, class_="figures"))


def _model(model: Mapping[str, Any]) -> Markup:
    facts = [f"{model['answers']:,} answers"]
    if model["batch_fill"] is not None:
        facts.append(f"batches {model['batch_fill']:.0%} full")
    if model["generated_tokens"]:
        facts.append(f"{model['prompt_tokens']:,} tokens read and {model['generated_tokens']:,} generated")
    return markup.join(tag("p", " · ".join(facts)), _latency(model), _drift(model), _performance(model))


def _latency(model: Mapping[str, Any]) -> Markup:
    names = {"queue": "queue", "prefill": "to the first token", "decode": "to the last token"}
    if model["decode"] is None:
        names["prefill"] = "computation"
    rows = [[words, *(f"{1e3 * x:,.1f}" for x in model[name].values())] for name, words in names.items() if model[name]]
    return markup.join(tag("h3", "Latency"), _table(["milliseconds", "median", "95 %", "99 %"], rows))


def _drift(model: Mapping[str, Any]) -> Markup:
    if model["drift"] is None:
        return tag("p", f"Drift: {model['note']}.")
    nearest: dict[str, Mapping[str, Any]] = {}  # of each signal, the window in which it is nearest to its limit
    for each in sorted(model["drift"], key=lambda each: -each["value"] / each["limit"]):
        nearest.setdefault(each["signal"], each)
    rows = []
    for each in nearest.values():
        value = tag("span", f"{each['value']:.3f}", class_="alarm" if each["value"] > each["limit"] else None)
        cells = [each["signal"], f"last {each['window']:,}", each["statistic"].upper(), value, f"{each['limit']:.3f}"]
        rows.append([*cells, _spark(each["history"], each["limit"])])
    table = _table(["signal", "requests", "distance", "now", "limit", "history"], rows, text={0, 1, 2, 5})
    return markup.join(tag("h3", "Drift"), _alarms(model["alarms"]), table)


def _alarms(alarms: Sequence[Mapping[str, Any]]) -> Markup:
    if not alarms:
        return tag("p", "No alarm.")
    lines = []
    for alarm in alarms:
        first = ", ".join(f"{signal} (last {window:,})" for signal, window in alarm["signals"].items())
        state = "stands" if alarm["stands"] else f"until {moment(alarm['until'])}"
        lines.append(
            tag(
                "li",
                tag("span", "Alarm ", class_="alarm"),
                f"{moment(alarm['time'])}, at request {alarm['request']:,}, {state}: {first}",
            )
        )
    return tag("ul", *lines)


def _spark(history: Sequence[float | None], limit: float) -> Markup:
    """A statistic over time as a line, and its limit dashed."""
    known = [(i, x) for i, x in enumerate(history) if x is not None]
    step = max(1, len(known) // POINTS)
    top = max([limit, *(x for _, x in known)]) * 1.05
    width = max(len(history) - 1, 1)
    place = lambda i, x: f"{100 * i / width:.1f},{20 - 20 * x / top:.2f}"  # noqa: E731
    # Of each stretch the largest value is drawn: a short alarm stays visible.
    points = [max(known[k : k + step], key=lambda pair: pair[1]) for k in range(0, len(known), step)]
    y = f"{20 - 20 * limit / top:.2f}"
    return tag(
        "svg",
        tag("line", x1="0", x2="100", y1=y, y2=y),
        tag("polyline", points=" ".join(place(*point) for point in points)),
        class_="spark", viewBox="0 0 100 20", preserveAspectRatio="none", role="img", aria_label="history and limit",
    )  # fmt: skip


def _performance(model: Mapping[str, Any]) -> Markup:
    found, export = model["performance"], (model.get("at_export") or {}).get("performance")
    rows = [["held-out data, at export", export]] if export else []
    rows += [["in service", found], *found["subgroups"].items()] if found else []
    if not rows:
        return NOTHING
    cells = [
        [name, f"{x['labels']:,}", f"{x['accuracy']:.1%} ± {x['standard_error']:.1%}", f"{x['calibration_error']:.3f}"]
        for name, x in rows
    ]
    return markup.join(tag("h3", "Accuracy"), _table(["", "labels", "accuracy", "calibration error"], cells))


def _routes(routes: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        [
            each["route"],
            str(each["status"]),
            f"{each['requests']:,}",
            *(f"{1e3 * x:,.1f}" for x in each["seconds"].values()),
        ]
        for each in routes
    ]
    return _table(["route", "status", "requests", "median, ms", "95 %", "99 %"], rows)


def _servers(servers: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        [each["server"], f"{each['memory_mb']:,.0f}", f"{each['peak_mb']:,.0f}", f"{each['dropped']:,}"]
        for each in servers
    ]
    return _table(["server", "memory, MB", "most, MB", "requests not recorded"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] | set[int] = (0,)) -> Markup:
    def line(cells: Sequence[str], kind: str) -> Markup:
        return tag("tr", *(tag(kind, cell, class_=None if i in text else "n") for i, cell in enumerate(cells)))

    body = tag("tbody", markup.join(*(line(row, "td") for row in rows), by="\n"))
    return tag("div", tag("table", tag("thead", line(head, "th")), body), class_="scroll") if rows else NOTHING
