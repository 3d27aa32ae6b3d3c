"""What a family's `build(cfg)` returns: everything that its loop, and every tool, needs of an experiment."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from research.core.config import TrackedConfig
from research.core.state import TrainState
from research.util.errors import UserError


class Embedding(NamedTuple):
    """How a value becomes a vector: `encode` makes inputs of it, and of the outputs `output` is the vector, f32[1, D].

    Of a text, `encode` takes its tokens, i32[n] of `tokenizer`, and reads `most` of them.
    """

    encode: Callable[[Any], Mapping[str, Any]]
    output: str
    tokenizer: Any = None
    most: int = 0


class Codec(Protocol):
    """The way between a raw value and arrays: all that prediction needs of a data set. research/data/codecs.py stores it.

    inputs       what inference reads, {name: (shape, dtype)}; strings in a shape are symbolic sizes, "b" the batch
    constraints  on symbolic sizes, as `jax.export.symbolic_shape` takes them: "t <= 64"
    draw         (value, what `decode` returned) -> a PIL image of both; None: there is nothing to draw
    embeddings   {what a value is embedded as: how}, the usual one first; empty: the model's outputs are no embedding of a value
    stream       a file -> ({name: value} that tells the place in the file, a value) in turn, read as they are asked for; None: a
                 file is one value, as `read` has it
    takes        the kind of value that `encode` takes ("text", "picture"), for `almanac pipe`; empty: it is in no chain
    gives        the kind of value that `handed_on` returns; "record": all that `decode` returns
    """

    @property
    def inputs(self) -> Mapping[str, tuple[tuple, str]]: ...

    @property
    def constraints(self) -> Sequence[str]:
        return ()

    @property
    def embeddings(self) -> Mapping[str, Embedding]:
        return {}

    draw: Callable[[Any, Mapping], Any] | None = None
    stream: Callable[[Path], Iterator[tuple[Mapping, Any]]] | None = None
    takes: str = ""
    gives: str = "record"

    def encode(self, value: Any) -> Mapping[str, Any]:
        """A value (a text, an image, an array) -> inputs of one row, {name: numpy [1, ...]}. Raises UserError if it is none."""
        raise NotImplementedError

    def decode(self, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Outputs of one row -> what a person reads, {name: value}."""
        raise NotImplementedError

    def further_pictures(self, value: Any, decoded: Mapping[str, Any]) -> Mapping[str, Any]:
        """(value, what `decode` returned) -> {name: a PIL image} to be written beside that of `draw`, as FILE.NAME.png."""
        return {}

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> Any:
        """(value, what `decode` returned) -> a value of the kind `gives`: what the next model of a chain takes."""
        return decoded

    def read(self, file: Path) -> Any:
        """A file -> a value that `encode` takes: for the command line alone."""
        raise NotImplementedError


class Dataset(Protocol):
    """Data to train and evaluate on: what a loader in research/data returns.

    train       numbered batches without end: research/data/pipeline.py
    evals       {split: batches}, one ordered pass each
    report      lines for the log and the report: sources, sizes, what was left out
    codec       the way between raw values and arrays
    tokenizers  of the token ids in its batches
    bos         the token that a decoder's target begins with; None: there is no decoder
    """

    train: Any
    evals: Mapping[str, Any]
    report: Sequence[str]
    codec: Codec
    tokenizers: tuple = ()
    bos: int | None = None

    def baselines(self) -> Mapping[str, "Baseline"]:
        """{metric as `split/name`: what simple predictors reach}. Computed once, when a run starts."""
        return {}

    def eval_batches(self, cfg: Mapping[str, Any]) -> Any:
        """Another set to evaluate on, as one ordered pass: the source that `cfg` names, encoded as this data set's own. What that
        left out is added to `report`.

        `cfg` has the keys of the `data` group and `part`: train, valid or test of the source, or None, all of it. Raises
        UserError if the source has not what this data set has (its classes, a size), or there is no such part.
        """
        raise UserError(
            "this family has no further sets to evaluate on: leave out evals.NAME.source and evals.NAME.path"
        )


class Baseline(NamedTuple):
    """What simple predictors reach in one metric."""

    values: Mapping[str, float]  # by predictor
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A family's one inference function, and the way to it from raw values.

    fn     pure: (variables, {name: array}) -> {name: array}
    codec  its inputs' shapes, and the way between raw values and arrays
    """

    fn: Callable[[Mapping, Mapping], Mapping]
    codec: Codec


class Evaluated(NamedTuple):
    """An evaluator's result for a split."""

    values: Mapping[str, float]  # metrics by name
    files: Mapping[str, Callable[[Path], Any]] = {}  # samples and scores: a file's name -> what writes it
    lines: Sequence[str] = ()  # for the terminal and the report


# (state on one local device, split, run directory, after_batch) -> Evaluated. For metrics that need whole outputs, not means over
# batches. It calls `after_batch()` now and then, which may end the evaluation by raising.
Evaluator = Callable[[TrainState, str, Path, Callable[[], Any]], Evaluated]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What `build` makes of a config. Nothing has been computed yet.

    cfg            the config, read through a view that counts what is read, with durations in steps
    train, evals   those of `data`
    init_fn        key -> {"params": ..., and mutable collections}
    tx             an Optax transformation, or {group of params: one}
    train_step     (state, batch) -> (state, {name: (sum, weight)})
    eval_step      (state, batch) -> {name: (sum, weight)}; None: the evaluator measures all
    predictor      inference, and the way to it from raw values
    split_metrics  {name: mean over a split} -> the same with what derives from means (perplexity, macro F1)
    evaluator      what needs whole outputs and not means over batches (BLEU, ranks, samples)
    judged         names of the metrics that the evaluator adds; "ap50_*" is all that begin so
    measured       splits that are measured in training; None: those of `evals`. `cfg.evals` may add to them and leave some out
    at_end         splits that the evaluator alone measures, once
    rules          (regex on a parameter's path, mesh axes) of this config; `sharding`: the model's named sets of them
    ema            decay of averaged parameters; 0: none
    whole_batch    why a step needs its batch at once (batch statistics, in-batch negatives); `optim.accumulate` is then 1
    no_fixed_batch why no loss falls by training on one batch (a game of two, an agent's own play)
    load_pretrained  (fresh state, run) -> the state with pretrained parameters; None: those of `init_fn` stay
    model          the Linen module; None for several networks
    data           the `Dataset`
    sample         (experiment, state, key, out, **options) -> pieces of text; None: the family does not generate
    ask            the reader or retriever that `almanac ask` calls; None: the family answers no questions
    chat           (experiment, state, key, **options) -> a conversation, for `almanac chat`; None: the family has none
    explained      (experiment, variables, inputs of one row, **options) -> the `Target` (research/interpret/targets.py) that
                   `almanac explain` explains; None: nothing
    built          the fields as `build` made them, which `dataclasses.replace` passes on; not an argument to give
    """

    cfg: TrackedConfig
    train: Any
    evals: Mapping[str, Any]
    init_fn: Callable
    tx: Any
    train_step: Any
    eval_step: Any
    predictor: Predictor
    split_metrics: Callable[[dict[str, float]], dict[str, float]] = dict
    evaluator: Evaluator | None = None
    judged: Sequence[str] = ()
    measured: Sequence[str] | None = None
    at_end: Sequence[str] = ()
    rules: Sequence = ()
    sharding: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)
    ema: float = 0.0
    whole_batch: str = ""
    no_fixed_batch: str = ""
    load_pretrained: Callable | None = None
    model: Any = None
    data: Any = None
    sample: Callable | None = None
    ask: Any = None
    chat: Callable | None = None
    explained: Callable | None = None
    built: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.built is None:
            fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
            object.__setattr__(self, "built", fields)
        if self.whole_batch and self.cfg.optim.accumulate > 1:
            raise UserError(f"optim.accumulate = {self.cfg.optim.accumulate}: {self.whole_batch}; set it to 1")

    @property
    def replaced(self) -> list[str]:
        """Fields that are no longer those of `build`: what the config does not tell of this experiment."""
        return [name for name, value in self.built.items() if name != "built" and getattr(self, name) is not value]

    @property
    def splits(self) -> list[str]:
        """The splits that are measured in training."""
        return list(self.evals if self.measured is None else self.measured)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the texts, if they have one vocabulary, else None."""
        known = self.data.tokenizers if self.data else ()
        return known[0] if known and all(each is known[0] for each in known) else None
