"""What a family's `build(cfg)` returns: everything that its loop, and every tool, needs of an experiment."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from research.core.config import View


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A family's one inference function, and the way between raw things and arrays.

    fn       pure: (variables, {name: array}) -> {name: array}
    inputs   {name: (shape, dtype)}; strings in a shape are symbolic sizes, "b" the batch
    limits   what symbolic sizes must obey, as `jax.export` reads it: "t <= 64"
    encode   a raw thing (text, an image file's path) -> inputs of one row, {name: numpy [1, ...]}
    decode   outputs of one row -> what a person reads, {name: value}
    """

    fn: Callable[[Mapping, Mapping], Mapping]
    inputs: Mapping[str, tuple[tuple, str]]
    encode: Callable[[Any], Mapping]
    decode: Callable[[Mapping], Mapping]
    limits: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """cfg with durations in steps · data · how a state is made · the steps · prediction. Nothing has been computed."""

    cfg: View
    train: Any  # pipeline.Stream
    evals: Mapping[str, Any]  # split -> pipeline.Sweep
    init: Callable  # key -> {"params": ..., **extra}
    tx: Any  # Optax transformation, or one a group of params
    train_step: Any  # step.Step
    eval_step: Any  # (state, batch) -> pairs
    predictor: Predictor
    quality: Any = None  # state -> {name: value}, where there are no batches to sweep over
    rules: Sequence = ()
    sharding: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)  # the model's named sets of rules
    ema: float = 0.0
    initial: Callable | None = None  # (fresh state, run) -> a state with parameters from elsewhere, told by run.note
    context: Any = None  # what the family's own tools need: tokeniser, class names
