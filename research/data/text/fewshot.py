"""Few-shot prompts: a task is specified by examples, without training (Brown et al. 2020, 2005.14165, section 2)."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.data import user_files
from research.util.errors import UserError

TEMPLATE = "Input: {input}\nOutput: {output}"
SEPARATOR = "\n\n"
_SLOT = re.compile(r"\{(input|output)\}")


class Prompt(NamedTuple):
    """Instructions, examples and the query, up to the beginning of its output."""

    text: str
    shots: int  # examples in the prompt
    left_out: int  # examples that were chosen but did not fit
    lead: str  # the spaces before the output: not in `text`, because tokens begin with a space


def load(path: str | Path) -> list[dict[str, str]]:
    """The examples of a JSONL file, {"input": text, "output": text} per line. Raises UserError that names an invalid line."""
    examples = []
    for place, row in user_files.json_lines(user_files.read(path)):
        example = {key: row.get(key) for key in ("input", "output")} if isinstance(row, dict) else {}
        if not example or not all(isinstance(value, str) for value in example.values()):
            found = row[:60] if isinstance(row, str) else repr(row)[:60]
            raise UserError(f'{path}, {place}: want {{"input": text, "output": text}}, not {found}')
        examples.append(example)
    if not examples:
        raise UserError(f"{path} holds no example")
    return examples


def prompt(
    examples: Sequence[Mapping[str, str]],
    query: str,
    *,
    shots: int,
    instructions: str = "",
    template: str = TEMPLATE,
    seed: int = 0,
    fits: Callable[[str], bool] = lambda text: True,
) -> Prompt:
    """`shots` of the examples, in a random order by `seed`, and then the query, each formatted by `template`.

    Examples are left out, the furthest from the query first, until `fits(text)`. Raises UserError if the instructions and the
    query alone do not fit, and if `shots` or `template` is invalid.

    >>> prompt([{"input": "1+1", "output": "2"}], "2+3", shots=1).text
    'Input: 1+1\\nOutput: 2\\n\\nInput: 2+3\\nOutput:'
    """
    if not 0 <= shots <= len(examples):
        raise UserError(f"shots={shots}: from 0 to the {len(examples)} examples there are")
    if [m[1] for m in _SLOT.finditer(template)] != ["input", "output"]:
        raise UserError(f"few-shot template {template!r}: want {{input}} and then {{output}}, once each")
    chosen = [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))[:shots]]
    worked = [_fill(template, example) for example in chosen]
    before = template[: template.index("{output}")]
    final = _fill(before.rstrip(" "), {"input": query})
    for kept in range(shots, -1, -1):
        parts = [*([instructions] if instructions else []), *worked[shots - kept :], final]
        if fits(text := SEPARATOR.join(parts)):
            return Prompt(text, kept, shots - kept, before[len(before.rstrip(" ")) :])
    raise UserError("the query and its instructions alone are longer than the model reads: shorten them or --length")


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda slot: values[slot[1]], template)  # in one pass: braces in a text are not slots
