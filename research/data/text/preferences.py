"""Prompts with a better and a worse completion: sums that are generated, or the user's own pairs.

Config: source (arithmetic, files), batch_size, eval_batch_size and

arithmetic   digits (of each number), noise (the share of wrong sums among the demonstrations), eval_size
files        path (a .jsonl of {"prompt", "chosen", "rejected"}), tokenizer and vocab_size, length, valid_fraction
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.core.experiment import Codec, Dataset
from research.data import codecs, tokenizers, top, user_files
from research.data.pipeline import Batch, EvalBatches, TrainBatches
from research.util.errors import UserError

ALPHABET = "\n+0123456789="
OFFSETS = (-10, -1, 1, 10)  # of a wrong sum from the right one
KEYS = ("prompt", "chosen", "rejected")


class Example(NamedTuple):
    prompt: str
    chosen: str
    rejected: str
    demonstration: str  # what imitation learns: `chosen`, or with noise `rejected`


class Rows:
    """Examples -> arrays of fixed shape.

    {"prompt": i32[n, P], "prompt_length": i32[n], "answer": i32[n, A], the chosen completion and end tokens,
    and for each of chosen, rejected, demonstration: the prompt with it and an end token, i32[n, T], and NAME_mask f32[n, T],
    1 at the completion and its end}.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, end: int, sizes: tuple[int, int, int]):
        self.tokenizer, self.end, self.sizes = tokenizer, end, sizes

    def arrays(self, examples: Sequence[Example]) -> Batch:
        P, A, T = self.sizes
        n = len(examples)
        out = {"prompt": np.zeros((n, P), np.int32), "prompt_length": np.zeros(n, np.int32)}
        out["answer"] = np.full((n, A), self.end, np.int32)
        names = Example._fields[1:]
        out |= {name: np.zeros((n, T), np.int32) for name in names}
        out |= {f"{name}_mask": np.zeros((n, T), np.float32) for name in names}
        for i, example in enumerate(examples):
            prompt, *completions = map(self.tokenizer.encode, example)
            size = out["prompt_length"][i] = len(prompt)
            out["prompt"][i, :size] = prompt
            out["answer"][i, : len(completions[0])] = completions[0]
            for name, ids in zip(names, completions, strict=True):
                stop = size + len(ids) + 1
                out[name][i, :stop] = [*prompt, *ids, self.end]
                out[f"{name}_mask"][i, size:stop] = 1
        return out


class Sums:
    """`a+b=` for a number of pairs (a, b), with wrong sums drawn anew from (seed, epoch, index)."""

    def __init__(self, rows: Rows, numbers: np.ndarray, noise: float, seed: int):
        """`numbers` i64[n, 2]."""
        self._rows, self._numbers, self._noise, self._seed = rows, numbers, noise, seed

    def __len__(self) -> int:
        return len(self._numbers)

    def gather(self, indices: np.ndarray, epoch: int) -> Batch:
        examples = [self._example(int(i), epoch) for i in indices]
        return {**self._rows.arrays(examples), "row": np.asarray(indices, np.int32)}

    def _example(self, i: int, epoch: int) -> Example:
        rng = np.random.default_rng((self._seed, epoch, i, 3))  # 3: a stream apart from the permutation's
        (a, b), offset = self._numbers[i], OFFSETS[rng.integers(len(OFFSETS))]
        right, wrong = str(a + b), str(abs(a + b + offset))
        return Example(f"{a}+{b}=", right, wrong, wrong if rng.random() < self._noise else right)


class Pairs:
    """The user's examples."""

    def __init__(self, rows: Rows, examples: Sequence[Example]):
        self._arrays = rows.arrays(examples)

    def __len__(self) -> int:
        return len(self._arrays["prompt"])

    def gather(self, indices: np.ndarray, epoch: int) -> Batch:
        return {k: v[indices] for k, v in self._arrays.items()} | {"row": np.asarray(indices, np.int32)}


class Preferences(Dataset):
    """Batches of `Rows`' arrays with "row" i32[B], each example's number. `length` is T, `end` the end token."""

    def __init__(self, rows: Rows, train: Any, valid: Any, cfg: Mapping[str, Any], seed: int, report: list[str]):
        self.train = TrainBatches(train, cfg["batch_size"], seed)
        self.evals = {"valid": EvalBatches(valid, cfg["eval_batch_size"])}
        self.tokenizer, self.end, self.length, self.report = rows.tokenizer, rows.end, rows.sizes[2], report
        self.tokenizers = (rows.tokenizer,)
        self.codec = TextReward(rows.tokenizer, self.length)


@codecs.register("text_reward")
@dataclasses.dataclass(frozen=True)
class TextReward(Codec):
    """A text of at most `length` tokens <-> its reward, or of a policy the next token."""

    tokenizer: tokenizers.Tokenizer
    length: int

    takes = "text"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"tokens": (("b", "t"), "int32"), "length": (("b",), "int32")}

    @property
    def constraints(self) -> tuple[str]:
        return (f"t <= {self.length}",)

    def encode(self, value: str) -> dict[str, np.ndarray]:
        """A text -> {"tokens": i32[1, t], "length": i32[1]}. Raises UserError if it is empty or too long."""
        ids = self.tokenizer.encode(value)
        if not 1 <= len(ids) <= self.length:
            raise UserError(f"the text has {len(ids):,} tokens: from 1 to {self.length}")
        return {"tokens": ids[None].astype(np.int32), "length": np.array([len(ids)], np.int32)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """-> the reward, or the top five next tokens."""
        if "reward" in outputs:
            return {"reward": round(float(outputs["reward"][0]), 4)}
        return {"next": top.of_logits(outputs["logits"][0], lambda i: self.tokenizer.decode(np.array([i])))}

    def read(self, file: Path) -> str:
        return user_files.read(file).removesuffix("\n")


def load(cfg: Mapping[str, Any], seed: int) -> Preferences:
    """The data set of a config's `data` group."""
    sources = {"arithmetic": _arithmetic, "files": _files}
    if cfg["source"] not in sources:
        raise UserError(f"no source of preferences {cfg['source']!r}: {' or '.join(sources)}")
    return sources[cfg["source"]](cfg, seed)


def _arithmetic(cfg: Mapping[str, Any], seed: int) -> Preferences:
    """Sums of two numbers of up to `digits` digits. `eval_size` of all pairs, the same for every seed, are never trained on."""
    if (tokenizer := user_files.option(cfg, "tokenizer", None)) is not None:
        raise UserError(
            f"data.tokenizer = {tokenizer!r}: sums have tokens of their own, a digit or a sign each; leave it None, or set "
            "data.source=files for texts"
        )
    defaults = {"digits": 2, "noise": 0.5, "eval_size": 512}
    digits, noise, size = (user_files.option(cfg, key, value) for key, value in defaults.items())
    if digits not in (1, 2, 3):
        raise UserError(f"data.digits = {digits!r}: 1, 2 or 3")
    if not 0 <= noise < 1:
        raise UserError(f"data.noise = {noise}: at least 0 and below 1")
    count = 10**digits
    if not 1 <= size < count**2:
        raise UserError(
            f"data.eval_size = {size}: from 1 to {count**2 - 1:,}, one less than the pairs of numbers there are"
        )
    order = np.random.default_rng(0).permutation(count**2)
    numbers = np.stack(np.divmod(order, count), 1)
    prompt, answer = 2 * digits + 2, digits + 2
    rows = Rows(tokenizers.make("char", ALPHABET), ALPHABET.index("\n"), (prompt, answer, prompt + answer))
    valid, train = Sums(rows, numbers[:size], 0.0, 0), Sums(rows, numbers[size:], noise, seed)
    report = [
        f"source   sums of two numbers of up to {digits} digits: {len(train):,} to train, {size:,} to validate",
        f"wrong    {noise:.0%} of the demonstrations are off by 1 or 10",
    ]
    return Preferences(rows, train, valid, cfg, seed, report)


def _files(cfg: Mapping[str, Any], seed: int) -> Preferences:
    path, length = user_files.root(cfg), user_files.option(cfg, "length", 256)
    name = user_files.option(cfg, "tokenizer", "byte")
    examples = read_pairs(path)
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    if not 0 < fraction < 1:
        raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
    held_out = [_share(example.prompt) < fraction for example in examples]
    parts = [[e for e, out in zip(examples, held_out, strict=True) if out == valid] for valid in (False, True)]
    if not all(parts):
        raise UserError(
            f"{path}: {len(parts[0])} examples to train, {len(parts[1])} to validate; change data.valid_fraction"
        )
    text = "\n".join("\n".join(example[:3]) for example in parts[0])
    tokenizer = tokenizers.make(name, text, optional=("eos",), vocab_size=cfg["vocab_size"])
    kind = "sep" if "sep" in tokenizer.special and "eos" not in tokenizer.special else "eos"
    (end,) = [0] if name == "byte" else tokenizers.special_ids(tokenizer, (kind,), name)
    fitting = [[example for example in part if _tokens(tokenizer, example) < length] for part in parts]
    left = len(examples) - sum(map(len, fitting))
    if not all(fitting):
        raise UserError(f"data.length = {length}: too few examples of {path} fit; raise it")
    every = [example for part in fitting for example in part]
    sizes = [max(len(tokenizer.encode(text)) for text in column) for column in list(zip(*every, strict=True))[:2]]
    rows = Rows(tokenizer, end, (sizes[0], sizes[1] + 1, length))
    report = [f"source   {path}: {len(fitting[0]):,} pairs to train, {len(fitting[1]):,} to validate, by prompt"]
    report += [f"left out {left:,} pairs of {length} tokens or more"] if left else []
    train, valid = (Pairs(rows, part) for part in fitting)
    return Preferences(rows, train, valid, cfg, seed, report)


def read_pairs(path: Path) -> list[Example]:
    """A JSONL file of {"prompt", "chosen", "rejected"}. Raises UserError that names the line of what is none."""
    examples = []
    for place, row in user_files.json_lines(user_files.read(path)):
        texts = [row.get(key) for key in KEYS] if isinstance(row, dict) else []
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise UserError(
                f'{path}, {place}: want {{"prompt": text, "chosen": text, "rejected": text}}, none of them empty'
            )
        prompt, chosen, rejected = texts
        if chosen == rejected:
            raise UserError(
                f"{path}, {place}: the chosen completion is the rejected one, {chosen[:40]!r}; remove the line"
            )
        examples.append(Example(prompt, chosen, rejected, chosen))
    if not examples:
        raise UserError(f"{path} holds no example")
    return examples


def _tokens(tokenizer: tokenizers.Tokenizer, example: Example) -> int:
    prompt, *completions = (len(tokenizer.encode(text)) for text in example[:3])
    return prompt + max(completions)


def _share(prompt: str) -> float:
    """A prompt's place in 0..1, by its hash: the same prompt is never in both parts."""
    return int(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 2**32
