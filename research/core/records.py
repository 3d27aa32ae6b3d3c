"""The files a run writes: metrics.jsonl, timing.jsonl, TensorBoard events; and the terminal."""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Records:
    """Opens a run directory's logs for appending after `step`; lines of later steps are of a life that was lost."""

    def __init__(self, folder: Path, step: int, num_steps: int, writes: bool):
        self._folder, self._writes = folder, writes
        self._files: dict[str, Any] = {}
        self._bar = tqdm(
            total=num_steps, initial=step, unit=" steps", disable=not (writes and sys.stderr.isatty()),
            dynamic_ncols=True, bar_format="{percentage:3.0f}% {bar} {n:,}/{total:,} {elapsed}<{remaining}{postfix}",
        )  # fmt: skip
        if not writes:
            return
        from tensorboardX import SummaryWriter

        for name in ("metrics.jsonl", "timing.jsonl"):
            _trim(folder / name, step)
            self._files[name] = open(folder / name, "a", encoding="utf-8")  # noqa: SIM115
        self._events = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One object a line, and the scalars `split/name`."""
        if not self._writes:
            return
        # JSON has no NaN: what could not be measured is null.
        clean = {k: float(v) if math.isfinite(v) else None for k, v in values.items()}
        self._line("metrics.jsonl", {"step": step, "split": split, "values": clean})
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", value, step)
        if split != "train":
            words = "  ".join(f"{k} {v:.4f}" for k, v in values.items())
            self.say(f"step {step:>7,}  {split:<5}  {words}")

    def time(self, step: int, rates: Mapping[str, float], values: Mapping[str, float]) -> None:
        if not self._writes:
            return
        self._line("timing.jsonl", {"step": step, **{k: round(v, 6) for k, v in rates.items()}})
        for name, value in rates.items():
            self._events.add_scalar(f"timing/{name}", value, step)
        unit = "tokens" if "tokens_per_s" in rates else "examples"
        words = [f"{k.replace('/', ' ')} {v:.3f}" for k, v in values.items() if k.endswith("loss")]
        words.append(f"{rates[f'{unit}_per_s']:,.0f} {unit}/s")
        if "mfu" in rates:
            words.append(f"MFU {rates['mfu']:.1%}")
        self._bar.set_postfix_str("  ".join(words), refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """A line of the terminal, above the progress bar."""
        if self._writes:
            self._bar.write(line, file=sys.stdout)
            sys.stdout.flush()

    def flush(self) -> None:
        """To the disk: a checkpoint promises that what came before it is in the log."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def _line(self, name: str, value: Mapping) -> None:
        self._files[name].write(json.dumps(value) + "\n")
        self._files[name].flush()

    def finish_bar(self) -> None:
        self._bar.close()

    def close(self) -> None:
        self._bar.close()
        for file in self._files.values():
            file.close()
        if self._writes:
            self._events.close()


def _trim(path: Path, step: int) -> None:
    """Keeps the whole lines up to `step`; a line cut short by a kill goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    write_text(path, "".join(kept))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
