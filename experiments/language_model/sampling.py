"""Text from a language model: a prompt, a conversation or worked examples in; free, matching or chosen text out."""

import json
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.core.experiment import Experiment
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
    if "" in stop:
        raise UserError("--stop=: want a text of one character or more")
    if asked["beam"] is not None and given.keys() - {"length"}:
        raise UserError(f"--{min(given.keys() - {'length'}).replace('_', '-')} is for drawing, --beam draws nothing")
    how = {k: v for k, v in {**options, **given}.items() if k != "prompt"}
    length = how.pop("length")
    prompt, stop, lead = _prompt(
        e, options["prompt"] if prompt is None else prompt, prompt is None, asked, length, list(stop)
    )
    tokens = data.tokenizer.encode(prompt)
    if not len(tokens):
        raise UserError(f"prompt {prompt!r} has no token in this vocabulary")
    if asked["choice"]:
        yield from _choose(e, state, tokens, [lead + text for text in asked["choice"]])
        return
    if pattern := _pattern(asked):
        how["constraint"] = constraints.from_regex(pattern, token_bytes.of(data.tokenizer))
    how |= {"length": length, "stop": _sequences(data.tokenizer, stop), "block": 16}
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
    if asked["draft"] is not None:
        deque(columns, maxlen=0)  # the counts of its tokens come after the last of them


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
) -> tuple[str, list, str]:
    """-> the text to go on from, where to stop, and what stands between it and its continuation."""
    data, model = e.data, e.model
    if asked["chat"]:
        template = chat.CHATML if asked["chat_template"] is None else _read(asked["chat_template"])
        rendered = chat.render(chat.load(asked["chat"]), template, add_generation_prompt=True)
        return rendered.text, stop + ([chat.END] if template == chat.CHATML else []), ""
    if not asked["few_shot"]:
        return prompt, stop, ""
    if is_default:
        raise UserError("--few-shot needs --prompt, the input whose output is wanted")
    examples = fewshot.load(asked["few_shot"])
    made = fewshot.prompt(
        examples,
        prompt,
        shots=min(4, len(examples)) if asked["shots"] is None else asked["shots"],
        instructions=asked["instructions"] or "",
        seed=e.cfg.seed,
        fits=lambda text: len(data.tokenizer.encode(text)) + length <= model.max_length,
    )
    if made.left_out:
        print(f"almanac: {made.left_out} of {made.left_out + made.shots} examples do not fit", file=sys.stderr)
    # What must match ends by itself.
    return made.text, stop if _pattern(asked) else [*stop, fewshot.SEPARATOR], made.lead


def _pattern(asked: Mapping) -> str | None:
    if not asked["json_schema"]:
        return asked["regex"]
    try:
        schema = json.loads(_read(asked["json_schema"]))
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {asked['json_schema']} as JSON: {error}") from None
    return constraints.schema_regex(schema)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} as UTF-8 text: {error}") from None


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


def _sequences(tokenizer: Any, stop: Sequence[str]) -> list[np.ndarray]:
    """The tokens of each stop that the tokenizer gives back as it is. Another one's tokens are those of another text: it occurs
    in other tokens, which `_text` sees, or, with a character that is not in the vocabulary, not at all."""
    found = []
    for text in stop:
        try:
            ids = tokenizer.encode(text)
        except UserError:
            continue
        if len(ids) and tokenizer.decode(ids) == text:
            found.append(ids)
    return found


def _text(tokenizer: Any, prompt: str, tokens: np.ndarray, columns: Iterator, stop: Sequence[str]) -> Iterator[str]:
    """The prompt, then what the columns add, up to the first stop. What may become a stop waits until it has, or has not."""
    known = len(tokenizer.decode(tokens))  # words and pieces are joined as their neighbours want it
    ids, shown, whole = [*tokens.tolist()], prompt, prompt
    yield prompt
    for column in columns:
        ids.append(int(column[0]))
        whole = prompt + tokenizer.decode(np.asarray(ids))[known:]
        if ends := [at for s in stop if (at := whole.find(s, len(prompt))) >= 0]:
            yield whole[len(shown) : min(ends)]
            return
        whole = whole.rstrip("\ufffd")  # perhaps half a character
        told = whole[: len(whole) - _begun(whole[len(prompt) :], stop)]
        yield told[len(shown) :]
        shown = told if len(told) > len(shown) else shown
    yield whole[len(shown) :]


def _begun(text: str, stop: Sequence[str]) -> int:
    """How many of a text's last characters are the most with which one of the stops begins.

    >>> _begun("a<|im", ["<|im_end|>", "m"]), _begun("a b", ["c"])
    (4, 0)
    """
    ends = range(max((len(s) for s in stop), default=0) - 1, 0, -1)
    return next((n for n in ends if n <= len(text) and any(s.startswith(text[-n:]) for s in stop if len(s) > n)), 0)
