"""Text from a language model, given a prompt, a conversation or few-shot examples: sampled, constrained, searched or ranked."""

import sys
from collections import deque
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
from research.generation.text_stream import stop_sequences, stream_text
from research.util.errors import UserError

NEEDS = {"shots": "few_shot", "instructions": "few_shot", "chat_template": "chat", "ahead": "draft"}
EXCLUSIVE = (
    ("prompt", "chat"),
    ("few_shot", "chat"),
    ("regex", "json_schema"),
    *(("choice", k) for k in ("regex", "json_schema", "draft")),
    *(("beam", k) for k in ("regex", "json_schema", "choice", "draft")),
)


def sample(
    options: Mapping[str, Any], e: Experiment, state: Any, key: jax.Array, out: Path | None = None, *, prompt: str | None = None,
    stop: Sequence[str] = (), **overrides: Any,
) -> Iterator[str]:  # fmt: skip
    """Yields `prompt` and its continuation, in pieces, as they are generated.

    options               the keys of `cfg.sample`; keywords override them
    stop                  texts: the continuation ends before the first that occurs in it
    regex, json_schema    an expression that the whole continuation matches, or a file with a JSON schema for it
    chat, chat_template   a JSON file of messages to reply to; a file with a template other than the model's (ChatML, or roles)
    few_shot              a JSONL file of examples: `instructions` and `shots` (4) examples are put before the prompt
    choice                texts to rank by likelihood instead of generating
    beam                  beam search of this width instead of sampling
    draft, ahead          (experiment, state) of a smaller model that drafts `ahead` (4) tokens at a time

    `out` is a path for images, and not used. Raises UserError if options are inconsistent or a file cannot be read.
    """
    del out
    data, model = e.data, e.model
    modes = {k: overrides.pop(k, None) for k in MODES}
    _check_consistent({**modes, "prompt": prompt})
    if "" in stop:
        raise UserError("--stop=: want a text of one character or more")
    if modes["beam"] is not None and overrides.keys() - {"length"}:
        raise UserError(
            f"--{min(overrides.keys() - {'length'}).replace('_', '-')} is for sampling, --beam does not sample"
        )
    settings = {k: v for k, v in {**options, **overrides}.items() if k != "prompt"}
    length = settings.pop("length")
    prompt, tokens, stop, lead = _prompt(
        e, options["prompt"] if prompt is None else prompt, prompt is None, modes, length, list(stop)
    )
    if not len(tokenizers.encode_with_added(data.tokenizer, prompt)):
        raise UserError(f"prompt {prompt!r} has no token in this vocabulary")
    if modes["choice"]:
        yield from _rank(e, state, tokens, [lead + text for text in modes["choice"]])
        return
    if pattern := _pattern(modes):
        settings["constraint"] = constraints.from_regex(pattern, token_bytes.of(data.tokenizer))
    settings |= {"length": length, "stop": stop_sequences(data.tokenizer, stop), "block": 16}
    columns: Iterator[np.ndarray]
    if modes["beam"] is not None:
        columns = _beam_search(model, state.variables, tokens, length, modes["beam"])
    elif modes["draft"] is None:
        columns = decoding.generate_stream(model, state.variables, [tokens], key, **settings)
    else:
        small, weights = _draft(e, *modes["draft"])
        settings["ahead"] = 4 if modes["ahead"] is None else modes["ahead"]
        columns = _report_drafts(
            speculative.generate_stream(model, state.variables, small, weights, [tokens], key, **settings)
        )
    yield from stream_text(data.tokenizer, prompt, tokens, columns, stop)
    if modes["draft"] is not None:
        deque(columns, maxlen=0)  # the counts of its tokens come after the last of them


MODES = ("regex", "json_schema", "choice", "few_shot", "chat", "draft", "beam", *NEEDS)


def _check_consistent(modes: Mapping[str, Any]) -> None:
    def flag(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    for option, other in NEEDS.items():
        if modes[option] is not None and modes[other] is None:
            raise UserError(f"{flag(option)} needs {flag(other)}")
    for a, b in EXCLUSIVE:
        if modes[a] and modes[b]:
            raise UserError(f"{flag(a)} and {flag(b)}: one or the other")


def _prompt(
    e: Experiment, prompt: str, is_default: bool, modes: Mapping, length: int, stop: list[str]
) -> tuple[str, np.ndarray, list, str]:
    """-> the text to continue, its tokens, the texts to stop at, and a prefix of each `choice`."""
    tokenizer, model = e.data.tokenizer, e.model
    template = chat.template_of(tokenizer)
    if modes["chat"]:
        template = template if modes["chat_template"] is None else user_files.read(modes["chat_template"])
        text, tokens = chat.prompt(chat.load(modes["chat"]), template, tokenizer)
        return text, tokens, stop + ([chat.ENDS[template]] if template in chat.ENDS else []), ""
    if not modes["few_shot"]:
        if template == chat.ROLES:  # it learnt replies: the prompt is a user's message
            text, tokens = chat.prompt([{"role": "user", "content": prompt}], template, tokenizer)
            return text, tokens, [*stop, chat.ENDS[template]], ""
        return prompt, tokenizers.opened(tokenizer, prompt), stop, ""
    if is_default:
        raise UserError("--few-shot needs --prompt, the input to predict the output of")
    examples = fewshot.load(modes["few_shot"])
    few_shot = fewshot.prompt(
        examples,
        prompt,
        shots=min(4, len(examples)) if modes["shots"] is None else modes["shots"],
        instructions=modes["instructions"] or "",
        seed=e.cfg.seed,
        fits=lambda text: len(tokenizers.opened(tokenizer, text)) + length <= model.max_length,
    )
    if few_shot.left_out:
        print(
            f"almanac: {few_shot.left_out} of {few_shot.left_out + few_shot.shots} examples do not fit", file=sys.stderr
        )
    # Constrained text ends by itself.
    stop = stop if _pattern(modes) else [*stop, fewshot.SEPARATOR]
    return few_shot.text, tokenizers.opened(tokenizer, few_shot.text), stop, few_shot.lead


def _pattern(modes: Mapping) -> str | None:
    if not modes["json_schema"]:
        return modes["regex"]
    return constraints.schema_regex(user_files.json_value(modes["json_schema"]))


def _draft(e: Experiment, other: Experiment, state: Any) -> tuple[Any, Any]:
    """-> the model and the variables of the draft. Raises UserError if its vocabulary is not that of `e`."""
    if other.tokenizer.to_json() != e.tokenizer.to_json():
        raise UserError("--draft has another vocabulary: its tokens must be the model's own")
    return other.model, state.variables


def _report_drafts(columns: Generator[np.ndarray, None, speculative.Drafted]) -> Iterator[np.ndarray]:
    """The columns; then prints the number of drafted tokens that were accepted."""
    drafted = yield from columns
    tried, accepted, rounds = (int(n[0]) for n in (drafted.tried, drafted.accepted, drafted.rounds))
    print(f"almanac: {accepted} of {tried} drafted tokens accepted in {rounds + 1} calls of the model", file=sys.stderr)


def _rank(e: Experiment, state: Any, context: np.ndarray, choices: Sequence[str]) -> Iterator[str]:
    """A line for each choice, the most likely first: its probability among the choices, and its log-likelihood in nats."""
    data, model = e.data, e.model
    log_likelihoods = scoring.log_likelihoods(
        model,
        state.variables,
        [context.tolist()] * len(choices),
        [data.tokenizer.encode(text).tolist() for text in choices],
    )
    scores = np.asarray(log_likelihoods, np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    for i in np.argsort(-scores, kind="stable"):
        yield f"{probabilities[i]:.4f}  {scores[i]:9.3f}  {choices[i].strip()}\n"


def _beam_search(model: Any, variables: Any, tokens: np.ndarray, length: int, width: int) -> Iterator[np.ndarray]:
    """The tokens of the best of `width` beams, one i32[1] at a time."""
    result = beam.continued(model, variables, tokens[None], length=length, beam=width)
    yield from np.asarray(result.tokens[:, 0]).T
