"""Text from a language model: a prompt, a conversation or worked examples in; free, matching or chosen text out."""

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.core.experiment import Experiment
from research.data import tokenizers, user_files
from research.data.text import chat, fewshot
from research.data.tokenizers import token_bytes
from research.generation import beam, constraints, decoding, scoring, speculative
from research.util.errors import UserError

NEEDS = {"shots": "few_shot", "instructions": "few_shot", "chat_template": "chat", "ahead": "draft"}
EITHER = (
    ("prompt", "chat"),
    ("few_shot", "chat"),
    ("regex", "json_schema"),
    *(("choice", k) for k in ("regex", "json_schema", "draft")),
    *(("beam", k) for k in ("regex", "json_schema", "choice", "draft")),
)


def sample(
    options: Mapping[str, Any], e: Experiment, state: Any, key: jax.Array, out: Path | None = None, *, prompt: str | None = None,
    stop: Sequence[str] = (), **given: Any,
) -> Iterator[str]:  # fmt: skip
    """Text continued from `prompt` as `options`, the keys of `cfg.sample`, say (keywords change them), in pieces as they come.

    It ends before the first of the texts `stop`. `out` is for pictures, and not used. Further keywords:

    regex, json_schema    what the new text matches, whole: an expression, or a file with a JSON schema
    chat, chat_template   a JSON file of messages to reply to; a file with a template other than ChatML
    few_shot              a JSONL file of examples, of which `shots` (4) after `instructions` come before the prompt
    choice                texts, of which the likeliest is chosen: nothing is generated
    beam                  the likeliest text that a beam so wide finds: nothing is drawn
    draft, ahead          (experiment, state) of a smaller model that drafts `ahead` (4) tokens at a time
    """
    del out
    data, model = e.data, e.model
    asked = {k: given.pop(k, None) for k in OPTIONS}
    _consistent({**asked, "prompt": prompt})
    if asked["beam"] is not None and given.keys() - {"length"}:
        raise UserError(f"--{min(given.keys() - {'length'}).replace('_', '-')} is for drawing, --beam draws nothing")
    how = {k: v for k, v in {**options, **given}.items() if k != "prompt"}
    length = how.pop("length")
    prompt, tokens, stop, lead = _prompt(
        e, options["prompt"] if prompt is None else prompt, prompt is None, asked, length, list(stop)
    )
    if not len(data.tokenizer.encode(prompt)):
        raise UserError(f"prompt {prompt!r} has no token in this vocabulary")
    if asked["choice"]:
        yield from _choose(e, state, tokens, [lead + text for text in asked["choice"]])
        return
    if pattern := _pattern(asked):
        how["constraint"] = constraints.from_regex(pattern, token_bytes.of(data.tokenizer))
    how |= {"length": length, "stop": [tokenizers.encode_with_added(data.tokenizer, s) for s in stop], "block": 16}
    columns: Iterator[np.ndarray]
    if asked["beam"] is not None:
        columns = _searched(model, state.variables, tokens, length, asked["beam"])
    elif asked["draft"] is None:
        columns = decoding.generate_stream(model, state.variables, [tokens], key, **how)
    else:
        small, weights = _draft(e, *asked["draft"])
        how["ahead"] = 4 if asked["ahead"] is None else asked["ahead"]
        columns = _reported(speculative.generate_stream(model, state.variables, small, weights, [tokens], key, **how))
    yield from _text(data.tokenizer, prompt, tokens, columns, stop)


OPTIONS = ("regex", "json_schema", "choice", "few_shot", "chat", "draft", "beam", *NEEDS)


def _consistent(given: Mapping[str, Any]) -> None:
    def flag(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    for option, other in NEEDS.items():
        if given[option] is not None and given[other] is None:
            raise UserError(f"{flag(option)} needs {flag(other)}")
    for a, b in EITHER:
        if given[a] and given[b]:
            raise UserError(f"{flag(a)} and {flag(b)}: one or the other")


def _prompt(
    e: Experiment, prompt: str, is_default: bool, asked: Mapping, length: int, stop: list[str]
) -> tuple[str, np.ndarray, list, str]:
    """-> the text to go on from, its tokens, where to stop, and what stands between it and its continuation."""
    tokenizer, model = e.data.tokenizer, e.model
    if asked["chat"]:
        template = chat.CHATML if asked["chat_template"] is None else user_files.read(asked["chat_template"])
        text, tokens = chat.prompt(chat.load(asked["chat"]), template, tokenizer)
        return text, tokens, stop + ([chat.END] if template == chat.CHATML else []), ""
    if not asked["few_shot"]:
        return prompt, tokenizers.opened(tokenizer, prompt), stop, ""
    if is_default:
        raise UserError("--few-shot needs --prompt, the input whose output is wanted")
    examples = fewshot.load(asked["few_shot"])
    made = fewshot.prompt(
        examples,
        prompt,
        shots=min(4, len(examples)) if asked["shots"] is None else asked["shots"],
        instructions=asked["instructions"] or "",
        seed=e.cfg.seed,
        fits=lambda text: len(tokenizers.opened(tokenizer, text)) + length <= model.max_length,
    )
    if made.left_out:
        print(f"almanac: {made.left_out} of {made.left_out + made.shots} examples do not fit", file=sys.stderr)
    # What must match ends by itself.
    stop = stop if _pattern(asked) else [*stop, fewshot.SEPARATOR]
    return made.text, tokenizers.opened(tokenizer, made.text), stop, made.lead


def _pattern(asked: Mapping) -> str | None:
    if not asked["json_schema"]:
        return asked["regex"]
    return constraints.schema_regex(user_files.json_value(asked["json_schema"]))


def _draft(e: Experiment, other: Experiment, state: Any) -> tuple[Any, Any]:
    if other.tokenizer.to_json() != e.tokenizer.to_json():
        raise UserError("--draft has another vocabulary: its tokens must be the model's own")
    return other.model, state.variables


def _reported(columns: Generator[np.ndarray, None, speculative.Drafted]) -> Iterator[np.ndarray]:
    drafted = yield from columns
    tried, kept, rounds = (int(n[0]) for n in (drafted.tried, drafted.accepted, drafted.rounds))
    print(f"almanac: {kept} of {tried} drafted tokens kept; the model was read {rounds + 1} times", file=sys.stderr)


def _choose(e: Experiment, state: Any, context: np.ndarray, choices: Sequence[str]) -> Iterator[str]:
    """A line a choice, the likeliest first: its log-likelihood in nats, and its share among them."""
    data, model = e.data, e.model
    told = scoring.log_likelihoods(
        model,
        state.variables,
        [context.tolist()] * len(choices),
        [data.tokenizer.encode(text).tolist() for text in choices],
    )
    scores = np.asarray(told, np.float64)
    share = np.exp(scores - scores.max())
    share /= share.sum()
    for i in np.argsort(-scores, kind="stable"):
        yield f"{share[i]:.4f}  {scores[i]:9.3f}  {choices[i].strip()}\n"


def _searched(model: Any, variables: Any, tokens: np.ndarray, length: int, width: int) -> Iterator[np.ndarray]:
    """The columns of the best of `width` beams."""
    found = beam.continued(model, variables, tokens[None], length=length, beam=width)
    yield from np.asarray(found.tokens[:, 0]).T


def _text(tokenizer: Any, prompt: str, tokens: np.ndarray, columns: Iterator, stop: Sequence[str]) -> Iterator[str]:
    """The prompt, then what the columns add, up to the first stop."""
    known = len(tokenizer.decode(tokens))  # words and pieces are joined as their neighbours want it
    ids, shown = [*tokens.tolist()], prompt
    yield prompt
    for column in columns:
        ids.append(int(column[0]))
        whole = prompt + tokenizer.decode(np.asarray(ids))[known:]
        ends = [at for s in stop if (at := whole.find(s, len(prompt))) >= 0]
        whole = whole[: min(ends)] if ends else whole.rstrip("\ufffd")  # perhaps half a character
        yield whole[len(shown) :]
        shown = whole
