"""The rows of `almanac pipe`: from files, lines or JSON lines, each read when it is asked for; to a line or an object."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from research.data import user_files
from research.serving.chain import Row
from research.serving.stage import Output, Stage
from research.serving.web import values
from research.util.errors import UserError
from research.util.escape import json_line
from tools.verbs import arguments


def read(stage: Stage, files: list[str] | None, lines: str, jsonl: str | None) -> Iterator[Row]:
    """Rows for a chain that begins with `stage`: of `files`, or of the file `jsonl`, or of `lines`; "-" is standard input.

    A row that cannot be read has the error for a value. Raises UserError if a file that holds rows cannot be read.
    """
    if files is not None:
        for file, _ in arguments.files(files):
            yield _row(file, stage.codec.read, Path(file))
    elif jsonl is not None:
        for number, line in _lines(jsonl):
            yield _row(f"line {number}", _parsed, line)
    else:
        for number, line in _lines(lines):
            if stage.takes == "text":
                yield Row(f"line {number}", line)
            else:
                yield _row(line or f"line {number}", stage.codec.read, Path(line))


def _row(name: str, read: Callable[[Any], Any], source: Any) -> Row:
    try:
        return Row(name, read(source))
    except UserError as error:
        return Row(name, error)


def _parsed(line: str) -> Any:
    try:
        return values.from_json(user_files.parse_json(line))
    except ValueError as error:
        raise UserError(f"not JSON ({getattr(error, 'msg', error)})") from None


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1, without their ends, as they come."""
    try:
        # Standard input is opened anew: Python cannot close its own while a thread reads it.
        with open(0 if file == "-" else file, encoding="utf-8-sig", newline="\n", closefd=file != "-") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UserError(f"cannot read {file} as UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None


def as_line(stages: Sequence[Stage], row: Row) -> str:
    """A row for people: its name, what each stage made of it, and why it failed."""
    steps = [_short(stage.gives, output) for stage, output in zip(stages, row.outputs, strict=False)]
    if row.error:
        number = len(row.outputs)
        steps.append(f"failed at stage {number + 1} ({stages[number].name}): {row.error}")
    return f"{row.name}: {' -> '.join(steps)}"


def _short(kind: str, output: Output) -> str:
    if kind == "picture":
        return f"a picture of {output.value.width} x {output.value.height} pixels"
    return json_line(output.record) if kind == "record" else str(output.value)


def as_object(stages: Sequence[Stage], row: Row) -> dict[str, Any]:
    """A row for programs: the record of every stage that it passed; "answer", the last one's, or where and why it failed."""
    steps = zip(stages, row.outputs, row.seconds, strict=False)
    records = [
        {"stage": stage.name, "output": values.to_json(output.record), "seconds": round(seconds, 6)}
        for stage, output, seconds in steps
    ]
    if not row.error:
        return {"row": row.name, "answer": records[-1]["output"], "stages": records}
    number = len(row.outputs)
    failed = {"number": number + 1, "stage": stages[number].name, "reason": row.error}
    return {"row": row.name, "failed": failed, "stages": records}
