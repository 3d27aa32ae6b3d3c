"""Completions of a prompt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.core.experiment import Experiment
from research.generation import decoding
from research.util.errors import UserError


def sample(
    e: Experiment, state: Any, key: jax.Array, out: Path | None = None, *, prompt: str | None = None,
    temperature: float | None = None, length: int | None = None,
) -> Iterator[str]:  # fmt: skip
    """Yields `prompt` and its completion. None: the first validation example's prompt, temperature 1, what fits."""
    del out
    data = e.data
    if prompt is None:
        batch = e.evals["valid"].batch(0)
        prompt = data.tokenizer.decode(batch["prompt"][0, : batch["prompt_length"][0]])
    tokens = data.tokenizer.encode(prompt)
    room = data.length - len(tokens)
    if not len(tokens) or room < 1:
        raise UserError(f"the prompt has {len(tokens)} tokens: from 1 to {data.length - 1}")
    settings = {
        "length": min(length or room, room),
        "stop": [[data.end]],
        "temperature": 1.0 if temperature is None else temperature,
    }
    yield prompt
    for column in decoding.generate_stream(e.model, {"params": state.variables["params"]}, [tokens], key, **settings):
        if column[0] != data.end:
            yield data.tokenizer.decode(np.asarray(column))
