"""Conversations as batches for a language model that learns the replies alone: supervised fine-tuning.

Config: source (`SOURCES`), path and valid_fraction of the source `conversations`, tokenizer and its options, length (T),
packing, batch_size, eval_batch_size.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.core.experiment import Baseline
from research.data import further_sets, tokenizers, user_files
from research.data.pipeline import Batch, EvalBatches, TrainBatches
from research.data.text import (
    chat,
    conversations,
    corpora,
    gsm8k,
    language_modelling,
    pydoc_dialogues,
    service_messages,
)
from research.data.text.conversations import Conversation, Message, Parts
from research.data.text.packed import Packed
from research.data.tokenizers.roles import Roles
from research.util.errors import UserError

SOURCES: dict[str, Callable[[Mapping[str, Any]], Parts]] = {
    "conversations": conversations.files,
    "gsm8k": gsm8k.load,
    "pydoc_dialogues": pydoc_dialogues.load,
    "service_messages": service_messages.dialogues,
}


class Dialogues(language_modelling.LanguageModelling):
    """Batches as those of packed documents, in which "token_mask" f32[B, T] is 1 where the target is of a reply or its end.

    parts  the conversations of "train", "valid" and, if there is one, "test"
    """

    def __init__(self, cfg: Mapping[str, Any], parts: Parts, seed: int):
        self._cfg, names = cfg, [name for name in ("train", "valid", "test") if getattr(parts, name) is not None]
        self.parts: dict[str, list[Conversation]] = {name: getattr(parts, name) for name in names}
        texts = {name: [_text(talk) for talk in talks] for name, talks in self.parts.items()}
        corpus = corpora.Corpus(texts["train"], texts["valid"], parts.report, texts.get("test"))
        tokenizer = language_modelling.make_tokenizer(cfg, corpus)
        if chat.template_of(tokenizer) == chat.CHATML and not {"<|im_start|>", chat.END} <= set(_added(tokenizer)):
            tokenizer = Roles(tokenizer)
        self.template, report = chat.template_of(tokenizer), list(parts.report)
        self._rows = {name: self._encode(talks, tokenizer) for name, talks in self.parts.items()}
        sizes = ", ".join(f"{len(talks):,} {language_modelling.TO[name]}" for name, talks in self.parts.items())
        report += [f"split    {sizes}", f"tokens   {cfg['tokenizer']} with markers, vocabulary {tokenizer.size:,}"]
        sources = {name: _source(cfg, rows) for name, rows in self._rows.items()}
        report += [line for name, rows in self._rows.items() for line in _lines(name, rows, sources[name], cfg)]
        tokens = {name: np.concatenate(rows.tokens) for name, rows in self._rows.items()}
        text = language_modelling.Text(tokens["train"], tokens["valid"], tokenizer, report, corpus, tokens.get("test"))
        evals = {name: EvalBatches(sources[name], cfg["eval_batch_size"]) for name in names if name != "train"}
        super().__init__(text, TrainBatches(sources["train"], cfg["batch_size"], seed), evals, cfg["length"], report)

    @property
    def opening(self) -> str:
        """A message to reply to: the first that the user has in validation."""
        messages = self.parts["valid"][0].messages
        return next(each["content"] for each in messages if each["role"] == "user")

    def baselines(self) -> Mapping[str, Baseline]:
        """Of the loss on replies, n-grams; of exact replies, by kind, the most frequent in training and the source's guess."""
        train, valid = (self._rows[name].pairs for name in ("train", "valid"))
        values = language_modelling.ngrams(train[1], train, valid, self.tokenizer.size)
        return {"valid/loss": Baseline(values, "nats/token"), **self._of_exact()}

    def _of_exact(self) -> dict[str, Baseline]:
        found = {}
        for kind in kinds(self.parts["valid"]):
            train, valid = ([talk for talk in self.parts[part] if talk.kind == kind] for part in ("train", "valid"))
            counts = collections.Counter(talk.answer for talk in train)
            frequent = max(sorted(counts), key=counts.__getitem__, default="")
            shares = {
                "most frequent answer": np.mean([talk.answer == frequent for talk in valid]),
                "guess": np.mean([talk.answer == talk.answer_in(talk.guess) for talk in valid]),
            }
            found[f"valid/exact_{kind}"] = Baseline({name: float(x) for name, x in shares.items()}, "share")
        return found

    def eval_batches(self, cfg: Mapping[str, Any]) -> EvalBatches:
        if cfg["source"] not in SOURCES:
            raise UserError(f"the set's source = {cfg['source']!r}: want one of conversations, {', '.join(SOURCES)}")
        parts, part = SOURCES[cfg["source"]](cfg), cfg["part"]
        names = [name for name in ("train", "valid", "test") if getattr(parts, name) is not None]
        chosen = further_sets.choose_parts(names, part)
        rows = self._encode([talk for name in chosen for talk in getattr(parts, name)], self.tokenizer)
        source = _source(self._cfg, rows)
        self.report = [*self.report, *parts.report, *_lines("the set", rows, source, self._cfg)]
        return EvalBatches(source, self._cfg["eval_batch_size"])

    def _encode(self, talks: Sequence[Conversation], tokenizer: Any) -> "Rows":
        return encode(talks, self.template, tokenizer, self._cfg["length"] + 1)


class Rows(NamedTuple):
    """Conversations as tokens i32[n] and masks f32[n] of the replies; how many were cut, by how many exchanges, and left out."""

    tokens: list[np.ndarray]
    masks: list[np.ndarray]
    cut: int
    exchanges: int
    left_out: int

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Each token of a reply, second, and the token before it, first: i32[n] each."""
        before = np.concatenate(
            [tokens[:-1][mask[1:] > 0] for tokens, mask in zip(self.tokens, self.masks, strict=True)]
        )
        after = np.concatenate([tokens[1:][mask[1:] > 0] for tokens, mask in zip(self.tokens, self.masks, strict=True)])
        return before, after


def encode(talks: Sequence[Conversation], template: str, tokenizer: Any, most: int) -> Rows:
    """Conversations in at most `most` tokens: the oldest exchanges of a longer one are left out, its system text stays.

    One whose last exchange alone is longer is left out. Raises UserError if that leaves none.
    """
    tokens, masks, cut, exchanges, left_out = list[np.ndarray](), list[np.ndarray](), 0, 0, 0
    for talk in talks:
        fitted = fit(talk.messages, lambda m: chat.encode_messages(m, template, tokenizer), lambda x: len(x[0]) <= most)
        if fitted is None:
            left_out += 1
            continue
        (ids, mask), dropped = fitted
        tokens.append(ids)
        masks.append(mask)
        cut, exchanges = cut + bool(dropped), exchanges + dropped
    if not tokens:
        raise UserError(f"data.length = {most - 1}: the last exchange of every conversation is longer; raise it")
    return Rows(tokens, masks, cut, exchanges, left_out)


def fit(messages: Sequence[Message], make: Callable[[Sequence[Message]], Any], fits: Callable[[Any], bool]) -> Any:
    """-> (`make` of the messages without their oldest exchanges, as few of these as lets it fit; their number), or None.

    An exchange is a message of the user and the reply. The system text, and the last message of the user, stay.
    """
    first = int(messages[0]["role"] == "system")
    last_of_user = max(i for i, each in enumerate(messages) if each["role"] == "user")
    for dropped, start in enumerate(range(first, last_of_user + 1, 2)):
        made = make([*messages[:first], *messages[start:]])
        if fits(made):
            return made, dropped
    return None


def kinds(talks: Sequence[Conversation]) -> list[str]:
    """The kinds of conversations whose last reply has one right form, in order."""
    return list(dict.fromkeys(talk.kind for talk in talks if talk.kind is not None))


def load(cfg: Mapping[str, Any], seed: int) -> Dialogues:
    """The data set of a config's `data` group, whose source is one of `SOURCES`."""
    if cfg["carry"]:
        raise UserError("data.carry = True: conversations are no running text; set it to None")
    for key in ("clean", "deduplicate", "text_key"):
        if (value := user_files.option(cfg, key, None)) is not None:
            raise UserError(f"data.{key} = {value!r} is for the source 'files'; leave it None")
    return Dialogues(cfg, SOURCES[cfg["source"]](cfg), seed)


class Padded:
    """A conversation a row, in T tokens, as a random-access source: what `Packed` has of it, without the numbers of segments."""

    def __init__(self, rows: Rows, length: int):
        self._rows, self._length = rows, length
        empty = 1 - sum(len(tokens) - 1 for tokens in rows.tokens) / (len(rows.tokens) * length)
        self.report = f"{len(rows.tokens):,} conversations, one a row, {empty:.1%} empty"

    def __len__(self) -> int:
        return len(self._rows.tokens)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> Batch:
        shape = len(indices), self._length
        batch: Batch = {"tokens": np.zeros(shape, np.int32), "targets": np.zeros(shape, np.int32)}
        batch["token_mask"] = np.zeros(shape, np.float32)
        for row, i in enumerate(indices):
            tokens, n = self._rows.tokens[i], len(self._rows.tokens[i]) - 1
            batch["tokens"][row, :n], batch["targets"][row, :n] = tokens[:-1], tokens[1:]
            batch["token_mask"][row, :n] = self._rows.masks[i][1:]
        return batch


def _source(cfg: Mapping[str, Any], rows: Rows) -> Packed | Padded:
    return Packed(rows.tokens, cfg["length"], rows.masks) if cfg["packing"] else Padded(rows, cfg["length"])


def _lines(name: str, rows: Rows, source: Packed | Padded, cfg: Mapping[str, Any]) -> list[str]:
    total, learnt = sum(map(len, rows.tokens)), int(sum(mask.sum() for mask in rows.masks))
    lines = [f"replies  {name}: {learnt:,} of {total:,} tokens", f"packing  {name}: {source.report}"]
    if rows.cut:
        lines.append(
            f"cut      {name}: {rows.exchanges:,} of the oldest exchanges of {rows.cut:,} conversations, to data.length = "
            f"{cfg['length']}"
        )
    if rows.left_out:
        lines.append(f"left out {name}: {rows.left_out:,} conversations whose last exchange is longer than data.length")
    return lines


def _text(talk: Conversation) -> str:
    return "\n".join(each["content"] for each in talk.messages)


def _added(tokenizer: tokenizers.Tokenizer) -> Mapping[str, int]:
    return getattr(tokenizer, "added", {})
