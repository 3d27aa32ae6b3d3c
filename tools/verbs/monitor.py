"""`almanac monitor FOLDER ... [--json] [--watch SECONDS]` and `almanac monitor label FOLDER FILE`"""

import argparse
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from research.data import user_files
from research.serving.monitor import alerts, store
from research.serving.monitor.tables import Feedback
from research.util.errors import UserError
from research.util.escape import visible

log = logging.getLogger("almanac.monitor")


def main(argv: list[str]) -> int:
    if argv[:1] == ["label"]:
        return _label(argv[1:])
    parser = argparse.ArgumentParser(
        prog="almanac monitor",
        description="Reports on what `almanac serve --monitor FOLDER` kept: traffic, errors, latency, memory, drift against the "
        "bundle's reference, and accuracy where labels have arrived. Writes monitor.html and prints a table. Several folders are "
        "merged by request id.",
        epilog="`almanac monitor label FOLDER FILE` adds labels, from a .csv or .jsonl with request_id, label, and optionally "
        "row (0) and subgroup. docs/monitoring.md says how often an alarm is false.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON, and write no page")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where monitor.html goes (default: the first folder)"
    )
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="look again and again, and log new alarms")
    parser.add_argument("--webhook", metavar="URL", help="with --watch: POST each alarm there, as JSON")
    args = parser.parse_args(argv)
    if args.webhook is not None:
        alerts.check(args.webhook)
    if args.watch is None and args.webhook is not None:
        raise UserError("--webhook: say how often to look, with --watch=SECONDS")
    if args.watch is not None and not args.watch > 0:
        raise UserError(f"--watch={args.watch}: above 0")
    if args.watch is not None:
        return _watch(args.folders, args.watch, args.webhook)
    numbers = _summary(args.folders)
    if args.json:
        print(json.dumps(numbers, indent=1))
        return 0
    from tools.results import monitor_page

    print(table(numbers))
    print(visible(monitor_page.write(numbers, args.out or Path(args.folders[0]))))
    return 0


def _summary(folders: list[str]) -> dict[str, Any]:
    from research.serving.monitor import summary

    return summary.summary(store.merged(folders))


# ---- The table


def table(numbers: Mapping[str, Any]) -> str:
    """A summary as lines for the terminal: each model's traffic, and its signals nearest to their limits first."""
    lines = [f"{numbers['requests']:,} requests"]
    for each in numbers["routes"]:
        seconds = each["seconds"]
        lines.append(
            f"  {visible(each['route']):<28} {each['status']}  {each['requests']:>8,}  median {1e3 * seconds['median']:,.1f} ms, "
            f"99 % {1e3 * seconds['p99']:,.1f} ms"
        )
    lines += [
        f"  {visible(each['server'])}  {each['memory_mb']:,.0f} MB, {each['dropped']:,} requests not recorded"
        for each in numbers["servers"]
    ]
    for each in numbers["models"]:
        lines.append(visible(f"{each['model']} {each['version']}: {each['answers']:,} answers"))
        lines += _drift_lines(each)
        if found := each["performance"]:
            lines.append(
                f"  accuracy {found['accuracy']:.3f} +- {found['standard_error']:.3f} of {found['labels']:,} labels, "
                f"calibration error {found['calibration_error']:.3f}"
            )
    return "\n".join(lines)


def _drift_lines(model: Mapping[str, Any]) -> Iterator[str]:
    if model["drift"] is None:
        yield f"  {model['note']}"
        return
    for each in sorted(model["drift"], key=lambda each: -each["value"] / each["limit"])[:5]:
        value = f"{each['statistic']:<3} {each['value']:.3f} of {each['limit']:.3f}"
        yield f"  {visible(each['signal']):<24} last {each['window']:>5,}  {value}"
    for alarm in model["alarms"]:
        names = ", ".join(alarm["signals"])
        yield f"  ALARM at {alerts.moment(alarm['time'])}, request {alarm['request']:,}: {visible(names)}"


# ---- Alerts


def _watch(folders: list[str], seconds: float, webhook: str | None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    known: dict[tuple, float] | None = None
    while True:
        known, found = news(_summary(folders), known)
        for alert in found:
            log.warning("drift of %s %s: %s", alert["model"], alert["version"], ", ".join(alert["signals"]))
            if webhook is not None:
                alerts.send(webhook, alert)
        time.sleep(seconds)


def news(
    numbers: Mapping[str, Any], known: Mapping[tuple, float] | None
) -> tuple[dict[tuple, float], list[dict[str, Any]]]:
    """Of a summary: until when each model's alarms are now known, and those that `known` did not have yet.

    At first, `known` is None and only alarms that still stand are new.
    """
    after, found = dict(known or {}), []
    for model in numbers["models"]:
        key = (model["model"], model["version"])
        for alarm in model.get("alarms", ()):
            if alarm["time"] > after.get(key, -1.0) and (known is not None or alarm["stands"]):
                found.append({"model": key[0], "version": key[1], "at": alerts.moment(alarm["time"]), **alarm})
            after[key] = max(after.get(key, -1.0), alarm["until"])
    return after, found


# ---- Labels


def _label(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="almanac monitor label", description="Adds labels to a store.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=".csv or .jsonl: request_id, label, and if any row, subgroup"
    )
    args = parser.parse_args(argv)
    if not (args.folder / store.FILE).is_file():
        raise UserError(f"{args.folder}: there is no {store.FILE}; give a folder of `almanac serve --monitor`")
    labels = list(read_labels(args.file))
    known = store.Store(args.folder).add_feedback(labels)
    print(f"{len(labels):,} labels, {known:,} of them of rows in {visible(args.folder)}, and kept")
    return 0


def read_labels(file: Path) -> Iterator[Feedback]:
    """A .csv with a header, or a .jsonl, of request_id, label, row, subgroup. Raises UserError, which names the line."""
    for place, row in _rows(file):
        try:
            if isinstance(row, str):
                raise ValueError(row)
            yield Feedback(_text(row, "request_id"), _number(row), _text(row, "label"), _group(row))
        except ValueError as fault:
            raise UserError(
                f"{file}, {place}: {fault}; want request_id, label, and if given a whole number as row"
            ) from None


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """(place, the row's values, or what is wrong with it)."""
    if file.suffix == ".csv":
        for row in user_files.table(file, ",", ("request_id", "label"), "row and subgroup may follow"):
            yield row.place, row.fault if row.cells is None else row.cells
    elif file.suffix == ".jsonl":
        yield from user_files.json_lines(user_files.read(file))
    else:
        raise UserError(f"{file}: want a .csv or a .jsonl")


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value in (None, "") or isinstance(value, list | dict):
        raise ValueError(f"{name} is {value!r}")
    return str(value)


def _number(row: Mapping[str, Any]) -> int:
    value = row.get("row")
    if value in (None, ""):
        return 0
    if not (type(value) is int or isinstance(value, str) and value.isdecimal()):
        raise ValueError(f"row is {value!r}")
    return int(value)


def _group(row: Mapping[str, Any]) -> str | None:
    return str(row["subgroup"]) if row.get("subgroup") not in (None, "") else None
