"""The true outputs of a chain's stages, and how often a stage gives them: on what it got, and on the true input."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from research.data import user_files
from research.data.images import image_files
from research.evals.character_errors import character_error_rate
from research.evals.image_restoration import psnr
from research.serving.chain import Row
from research.serving.stage import Output, Stage
from research.util.errors import UserError, nearest


class Score(NamedTuple):
    """A measure of one stage's outputs: on what it got, and on the true output of the stage before, with the rows of each.

    `value` and `on_truth` are None if there are no rows.
    """

    stage: int
    measure: str
    value: float | None
    rows: int
    on_truth: float | None
    rows_on_truth: int


def read(file: Path, stages: Sequence[Stage]) -> list[dict[int, Any]]:
    """A .jsonl -> of each row the true output by the stage's index; its keys are the stages' numbers, from 1, or names.

    A text or class is a string, a picture the path of a file, from the folder of the .jsonl on. Raises UserError for a key that
    is no stage, a value of another kind, or a kind that is not compared.
    """
    rows = []
    for place, line in user_files.json_lines(user_files.read(file)):
        try:
            if isinstance(line, str):
                raise UserError(line)
            rows.append(
                {(i := _index(key, stages)): _value(stages[i], value, file.parent) for key, value in line.items()}
            )
        except UserError as error:
            raise UserError(f"{file}, {place}: {error}") from None
    return rows


def _index(key: str, stages: Sequence[Stage]) -> int:
    if key.isdecimal() and 1 <= int(key) <= len(stages):
        return int(key) - 1
    found = [i for i, stage in enumerate(stages) if stage.name == key]
    if len(found) > 1:
        raise UserError(f"{len(found)} stages are called {key!r}; give the number of one, or name it as NAME=RUN")
    if not found:
        raise UserError(f"no stage {key!r}{nearest(key, [stage.name for stage in stages])}; numbers begin at 1")
    return found[0]


def _value(stage: Stage, value: Any, folder: Path) -> Any:
    if stage.gives not in MEASURES:
        raise UserError(f"{stage.name} gives {stage.gives}, which is not compared; leave it out")
    if not isinstance(value, str):
        raise UserError(f"{stage.name} gives {stage.gives}: want a text, not {value!r:.40}")
    if stage.gives != "picture":
        return value
    try:
        with Image.open(folder / value) as picture:
            picture.load()
            return picture
    except image_files.UNREADABLE as error:
        raise UserError(f"picture {value} cannot be read: {error}") from None


def scores(stages: Sequence[Stage], rows: Sequence[Row]) -> list[Score]:
    """The measures of each stage whose true outputs are known.

    Of a class or text the share of rows whose words are exact, of a text the character error rate too, and of a picture the PSNR
    in dB of the mean squared error of all rows. A row without an output is not exact, and an empty text; no picture is no row.
    """
    found = []
    for i, stage in enumerate(stages):
        known = [row for row in rows if i in row.truth]
        got = [(row.outputs[i] if i < len(row.outputs) else None, row.truth[i]) for row in known]
        on_truth = [(row.on_truth[i], row.truth[i]) for row in known if i in row.on_truth]
        for name, measure in MEASURES.get(stage.gives, {}).items() if known else ():
            values = [measure(pairs) if pairs else None for pairs in (got, on_truth)]
            found.append(Score(i, name, values[0], len(got), values[1], len(on_truth)))
    return found


Pairs = Sequence[tuple[Output | None, Any]]  # what a stage made, and what is true


def _exact(pairs: Pairs) -> float:
    return float(np.mean([output is not None and output.value.split() == truth.split() for output, truth in pairs]))


def _characters(pairs: Pairs) -> float:
    texts = ["" if output is None else output.value for output, _ in pairs]
    return character_error_rate(texts, [truth for _, truth in pairs])


def _psnr(pairs: Pairs) -> float | None:
    errors = [_squared_errors(output.value, truth) for output, truth in pairs if output is not None]
    return psnr(float(np.mean(np.concatenate(errors)))) if errors else None


def _squared_errors(output: Image.Image, truth: Image.Image) -> np.ndarray:
    """f64[n], of all pixels and channels, in 0..1. Raises UserError if the pictures differ in size."""
    if output.size != truth.size:
        sizes = [f"{picture.width} x {picture.height}" for picture in (truth, output)]
        raise UserError(f"--oracle: a true picture has {sizes[0]} pixels, and the stage gives {sizes[1]}")
    arrays = [np.asarray(picture.convert(output.mode), np.float64) / 255 for picture in (output, truth)]
    return np.square(arrays[0] - arrays[1]).ravel()


MEASURES: dict[str, dict[str, Callable[[Pairs], float | None]]] = {
    "class": {"exact": _exact},
    "text": {"exact": _exact, "character error rate": _characters},
    "picture": {"PSNR, dB": _psnr},
}
