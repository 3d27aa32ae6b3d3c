"""report.json: lines on the data, baselines, the best value and the last step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from research.core.experiment import Baseline, Dataset
from research.util import run_files
from research.util.errors import UserError
from research.util.files import read_json, write_json

REPORTED = run_files.Shape(  # what a checkpoint keeps of a report
    {"lines": run_files.many(run_files.TEXT), "baselines": run_files.each(run_files.each(run_files.NUMBER))}
)


class Report:
    """`say` prints a line. `values` is what a checkpoint keeps of it."""

    def __init__(self, say: Callable[[str], Any], values: Mapping[str, Any] | None = None):
        self._say, self.values = say, dict(values or {"lines": [], "baselines": {}})

    def note(self, line: str) -> None:
        """A line for the terminal and the report, once."""
        if line not in self.values["lines"]:
            self.values["lines"].append(line)
            self._say(line)

    def describe(self, data: Dataset | None) -> None:
        """The data's report; its baselines too, unless they came with a checkpoint."""
        for line in data.report if data else ():
            self.note(line)
        if data and not self.values["baselines"]:
            for metric, baseline in data.baselines().items():
                self._baseline(metric, baseline)

    def _baseline(self, metric: str, baseline: Baseline) -> None:
        self.values["baselines"][metric] = dict(baseline.values)
        words = ", ".join(f"{name} {value:.3f}" for name, value in baseline.values.items())
        self.note(f"{metric} baseline: {words}{' ' if baseline.unit else ''}{baseline.unit}")

    def write(self, folder: Path, best: Mapping[str, Any], step: int) -> None:
        write_json(folder / "report.json", {**self.values, "best": best, "done": step})


def is_written(folder: Path, step: int) -> bool:
    """Whether a run that ended at `step` has written its report, which may have lines that its last checkpoint has not."""
    try:
        return read_json(folder / "report.json")["done"] == step
    except (UserError, LookupError, TypeError):
        return False
