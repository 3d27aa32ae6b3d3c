"""What a family's `build(cfg)` returns: everything that its loop, and every tool, needs of an experiment."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.core.config import View
from research.core.state import TrainState


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A family's one inference function, and the way between raw things and arrays.

    fn       pure: (variables, {name: array}) -> {name: array}
    inputs   {name: (shape, dtype)}; strings in a shape are symbolic sizes, "b" the batch
    limits   what symbolic sizes must obey, as `jax.export` reads it: "t <= 64"
    encode   a value (a text, a picture, an array) -> inputs of one row, {name: numpy [1, ...]}
    decode   outputs of one row -> what a person reads, {name: value}
    read     a file -> such a value: for the command line alone
    """

    fn: Callable[[Mapping, Mapping], Mapping]
    inputs: Mapping[str, tuple[tuple, str]]
    encode: Callable[[Any], Mapping]
    decode: Callable[[Mapping], Mapping]
    read: Callable[[Path], Any]
    limits: Sequence[str] = ()


class Evaluated(NamedTuple):
    """What an evaluator makes of a split."""

    values: Mapping[str, float]  # metrics by name
    files: Mapping[str, Callable[[Path], Any]] = {}  # samples and scores: a file's name -> what writes it
    lines: Sequence[str] = ()  # for the terminal and the report


# (state on one local device, split, run directory) -> Evaluated. For metrics that need whole outputs, not means over batches.
Evaluator = Callable[[TrainState, str, Path], Evaluated]


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
    split_metrics: Callable[[dict[str, float]], dict[str, float]] = (
        dict  # a split's means -> with what derives from them
    )
    evaluator: Evaluator | None = None
    measured: Sequence[str] | None = None  # splits measured every `eval_every` steps; None: those of `evals`
    at_end: Sequence[str] = ()  # splits that the evaluator alone measures, once
    rules: Sequence = ()
    sharding: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)  # the model's named sets of rules
    ema: float = 0.0
    initial: Callable | None = None  # (fresh state, run) -> a state with parameters from elsewhere, told by run.note
    model: Any = None  # the Linen module; None for several networks
    data: Any = None  # what the family's data loader returned: its report, baselines, classes
    tokenizer: Any = None  # of text models with one vocabulary, for export and drafts
    sample: Callable | None = (
        None  # (experiment, state, key, out, **options) -> pieces of text; None: it does not generate
    )
    ask: Any = None  # of a reader or a retriever: the object that `almanac ask` calls

    @property
    def splits(self) -> list[str]:
        """The splits that are measured in training."""
        return list(self.evals if self.measured is None else self.measured)
