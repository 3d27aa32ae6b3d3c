"""How one architecture's arrays lie here and in Hugging Face's files: a table of rows that is read in both directions.

A row is (our path, their names on disk, their shapes, form). In paths and names `*` is a layer's number. Shapes are written in
sizes that follow from the config: D width, F hidden units, V vocabulary, P positions, Q = H K columns of the query heads,
KV = N K of the key heads.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.util.errors import UserError
from research.util.run_files import shown

# Attributes of a module that say how it is computed or trained, not what it computes; and how experts, if any, are chosen.
FREE = {"parent", "name", "scan", "remat", "dropout", "attention_dropout", "activation_dropout", "drop_path"}
FREE |= {"experts_per_token", "balance"}
# Keys of config.json that say how text is generated, or what a call returns: they change nothing of what is computed.
GENERATION = {
    "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
    "length_penalty", "max_length", "max_new_tokens", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "prefix", "remove_invalid_values",
    "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "temperature", "top_k", "top_p", "torchscript",
    "typical_p", "use_bfloat16",
}  # fmt: skip
# Keys of config.json that tell of a task, a tokenizer, a training or a version, in any architecture.
ABOUT = GENERATION | {
    "almanac", "architectures", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id", "finetuning_task",
    "gradient_checkpointing", "id2label", "initializer_range", "label2id", "model_type", "num_labels", "output_past",
    "pad_token_id", "problem_type", "return_dict", "sep_token_id", "task_specific_params", "tokenizer_class",
    "torch_dtype", "transformers_version", "unk_token_id", "use_cache",
}  # fmt: skip


def size(config: Mapping[str, Any], key: str, default: int | None) -> int | None:
    """The number of heads, layers, columns, ... under a key of config.json; `default` where it has none."""
    value = default if config.get(key) is None else config[key]
    if value is not None and (type(value) is not int or value < 1):
        raise UserError(f"{key} = {shown(value)}: wanted a whole number, at least 1")
    return value


class Form(NamedTuple):
    """read(sizes, *theirs) -> ours; write(sizes, ours) -> theirs, of one row."""

    read: Callable[..., np.ndarray]
    write: Callable[[Mapping[str, int], np.ndarray], Sequence[np.ndarray]]


def _pack(sizes: Mapping[str, int], *parts: np.ndarray) -> np.ndarray:
    """The columns of q, k and v (or of k and v), heads in turn -> our columns, group by group: see `Attention`."""
    lead, N, K = parts[0].shape[:-1], sizes["N"], sizes["K"]
    return np.concatenate([x.reshape(*lead, N, -1, K) for x in parts], -2).reshape(*lead, -1)


def _unpack(sizes: Mapping[str, int], x: np.ndarray) -> list[np.ndarray]:
    lead, N, K = x.shape[:-1], sizes["N"], sizes["K"]
    groups = x.reshape(*lead, N, -1, K)
    G = groups.shape[-2] - 2
    return [part.reshape(*lead, -1) for part in np.split(groups, [G, G + 1] if G else [1], -2)]


def _transposed(form: Form) -> Form:
    return Form(
        lambda sizes, *theirs: form.read(sizes, *(x.T for x in theirs)),
        lambda sizes, ours: [x.T for x in form.write(sizes, ours)],
    )


SAME = Form(lambda _, x: x, lambda _, x: [x])
TRANSPOSED = _transposed(SAME)  # torch's Linear holds [out, in]
CONVOLUTION = Form(  # torch's Conv2d holds [out, in, rows, columns]
    lambda _, x: x.transpose(2, 3, 1, 0), lambda _, x: [x.transpose(3, 2, 0, 1)]
)
ONE_ROW = Form(lambda _, x: x[0], lambda _, x: [x[None]])
PACKED = Form(_pack, _unpack)
PACKED_TRANSPOSED = _transposed(PACKED)
JOINED = Form(  # q, k and v side by side in one
    lambda sizes, x: _pack(sizes, *np.split(x, 3, -1)), lambda sizes, x: [np.concatenate(_unpack(sizes, x), -1)]
)
JOINED_TRANSPOSED = _transposed(JOINED)


class Row(NamedTuple):
    """`only`: the attribute that must be true, or after `!` false, for the row to count.

    `zeros`: where it does not, the file has zeros in its place.
    """

    ours: str
    theirs: str  # one name, or several with a space between them
    shapes: str  # of each: "V D", or "Q D, KV D, KV D"
    form: Form = SAME
    only: str = ""
    zeros: bool = False


def linear(ours: str, theirs: str, shape: str, form: Form = TRANSPOSED) -> tuple[Row, Row]:
    """The rows of a linear layer or, with CONVOLUTION, of a convolution, of this shape there, and of its bias."""
    kernel = Row(f"{ours}/kernel", f"{theirs}.weight", shape, form)
    return kernel, Row(f"{ours}/bias", f"{theirs}.bias", shape.split()[0])


def norm(ours: str, theirs: str, width: str = "D") -> tuple[Row, Row]:
    """The rows of a norm's scale and bias."""
    return Row(f"{ours}/scale", f"{theirs}.weight", width), Row(f"{ours}/bias", f"{theirs}.bias", width)


class Tensor(NamedTuple):
    """A row for one layer of one model. `zeros`: not here, and zeros there."""

    ours: str
    theirs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    form: Form
    zeros: bool


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What config.json calls `name`, as the Linen `module`, trained by the experiments of `family`.

    classes   (the class of `transformers` to write, our paths that it needs), the fullest first
    prefix    of their names; a bare body's file is without it
    keys      our attribute -> (their key, its value where config.json has none)
    values    our attribute -> {our value: theirs, of which the first is written}
    constant  our attributes that are the same in all models of this architecture
    fixed     their keys -> the one value that we have
    ignored   their keys that change nothing, or that `more` looks at
    loose     our attributes that may differ: arrays of other shapes tell, or they are rates of dropout
    resolve   module -> its attributes, as `attributes` gives a config's
    more      config -> attributes that are not those of one key
    written   attributes -> keys of config.json that are not those of one attribute
    optional  our paths that a file may lack: heads
    copies    their names, where a file has them at all, that repeat another (the first of several that it has)
    skipped   a regular expression of their names that are no parameters
    others    of heads that the module has not: left out, and listed
    root      our path of `module`'s parameters, beside other parts
    layers    how our paths of layers begin -> the attribute that counts them, a number or, of stages in turn, several
    """

    name: str
    family: str
    module: type
    classes: Sequence[tuple[str, Sequence[str]]]
    prefix: str
    table: Sequence[Row]
    keys: Mapping[str, tuple[str, Any]]
    values: Mapping[str, Mapping[Any, Sequence[Any]]]
    constant: Mapping[str, Any]
    fixed: Mapping[str, Any]
    ignored: frozenset[str]
    loose: frozenset[str]
    sizes: Callable[[Mapping[str, Any]], dict[str, int]]
    resolve: Callable[[Any], dict[str, Any]]
    more: Callable[[Mapping[str, Any]], dict[str, Any]]
    written: Callable[[Mapping[str, Any]], dict[str, Any]]
    optional: Sequence[str] = ()
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    skipped: str = "$^"
    others: str = "$^"
    root: str = ""
    layers: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"h_*": "num_layers"})

    def attributes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """config.json -> the module's attributes; UserError for what it asks for and we have not."""
        known = ABOUT | self.ignored | set(self.fixed) | {theirs for theirs, _ in self.keys.values()}
        for key, value in config.items():
            if key in self.fixed and value != self.fixed[key]:
                raise UserError(f"{key} = {shown(value)} is not supported; {self.fixed[key]!r} is")
            if key not in known and not key.startswith("_") and value:
                raise UserError(f"{shown(key)[1:-1]} = {shown(value)} is not supported")
        found = dict(self.constant)
        for ours, (theirs, default) in self.keys.items():
            value = default if config.get(theirs) is None else config[theirs]
            if ours in self.values:
                names = {their: our for our, all_theirs in self.values[ours].items() for their in all_theirs}
                if not isinstance(value, str) or value not in names:
                    raise UserError(f"{theirs} = {shown(value)} is not supported; {' and '.join(map(repr, names))} are")
                value = names[value]
            elif default is None or type(default) is int:
                value = size(config, theirs, default)
            elif not isinstance(value, (int, float) if isinstance(default, float) else type(default)):
                raise UserError(f"{theirs} = {shown(value)}: wanted {type(default).__name__}")
            found[ours] = value
        return found | dict.fromkeys(self.zeroed, True) | self.more(config)

    def check_depth(self, attributes: Mapping[str, Any], tensors: int) -> None:
        """Raises UserError for more layers than there are tensors in the file, each of which would be looked for by name."""
        for part, name in self.layers.items():
            if (depth := self._depth(attributes, part)) > tensors:
                key = self.keys[name][0] if name in self.keys else name
                raise UserError(f"{key} = {depth:,}, and the weights are {tensors:,} tensors")

    def _depth(self, attributes: Mapping[str, Any], part: str) -> int:
        """How many layers have paths that begin with `part`, a key of `layers`."""
        value = attributes[self.layers[part]]
        return value[list(self.layers).index(part)] if isinstance(value, tuple) else value

    @property
    def zeroed(self) -> list[str]:
        """Attributes without which the file has zeros."""
        return list(dict.fromkeys(row.only for row in self.table if row.zeros))

    def config(self, module: Any) -> dict[str, Any]:
        """A module -> config.json; UserError that names the attribute that has no place in it."""
        attributes = self.resolve(module)
        for name, field in module.__dataclass_fields__.items():
            if name not in FREE and name not in attributes and getattr(module, name) != field.default:
                raise UserError(f"{name} = {getattr(module, name)!r} has no place in a {self.name}")
        for name, value in self.constant.items():
            if attributes[name] != value:
                raise UserError(f"{name} = {attributes[name]!r}, where a {self.name} has {value!r}")
        found = {"model_type": self.name, **self.fixed}
        for ours, (theirs, _) in self.keys.items():
            value = attributes[ours]
            if ours in self.values:
                known = self.values[ours]
                if value not in known:
                    raise UserError(f"{ours} = {value!r}, where a {self.name} has {' or '.join(map(repr, known))}")
                value = known[value][0]
            found[theirs] = value
        left = {name: False for name in self.zeroed if not attributes[name]}
        return found | self.written(attributes) | ({"almanac": left} if left else {})

    def tensors(self, attributes: Mapping[str, Any]) -> Iterator[Tensor]:
        """The table, for a model with these attributes."""
        sizes = self.sizes(attributes)
        for row in self.table:
            counts = not row.only or bool(attributes[row.only.lstrip("!")]) != row.only.startswith("!")
            if not counts and not row.zeros:
                continue
            shapes = tuple(tuple(sizes[s] for s in text.split()) for text in row.shapes.split(", "))
            part = next((part for part in self.layers if part in row.ours), None)
            for i in map(str, range(self._depth(attributes, part)) if part else [0]):
                names = tuple(row.theirs.replace("*", i).split())
                yield Tensor(row.ours.replace("*", i), names, shapes, row.form, not counts)

    def find(self, module: Any) -> tuple[Any, str] | None:
        """Where in a module, or in its parts, this is -> that part and the path of its parameters; None: nowhere."""
        return find(module, self.module)


def find(module: Any, kind: type) -> tuple[Any, str] | None:
    """Where in a module, or in its parts, one of this kind is -> that part and the path of its parameters; None: nowhere."""
    if isinstance(module, kind):
        return module, ""
    for name in getattr(module, "__dataclass_fields__", ()):
        if name != "parent" and isinstance(part := getattr(module, name, None), kind):
            return part, name
    return None
