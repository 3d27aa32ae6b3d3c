"""What a run does in a service's conversation: a language model writes calls, a text classifier finds who is unhappy."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.customer_service import conversation
from experiments.text_classification.train import probabilities_and_labels
from research.data import tokenizers
from research.data.text import chat, service_messages
from research.data.text.conversations import message
from research.data.text.dialogues import Dialogues
from research.data.tokenizers import token_bytes
from research.evals.classification import threshold_at_false_alarms, wilson
from research.generation import constraints, decoding, scoring
from research.generation.text_stream import stop_sequences
from research.util.errors import UserError, nearest
from tools.verbs import ask

BATCH = 64  # calls written at once


class Caller:
    """Writes the call that a message asks for, with a run of language_model that learnt replies.

    Raises UserError if the run is another.
    """

    def __init__(self, run: str, checkpoint: str = "best"):
        e, state, _ = ask.load(run, checkpoint, "language_model")
        if not isinstance(e.data, Dialogues) or not decoding.rewinds(e.model):
            raise UserError(
                f"{run} is a run of {e.cfg.name}; want a gpt of conversations, as language_model/service_calls"
            )
        self.data, self._model, self._variables = e.data, e.model, state.variables
        self._tokenizer, self._end = e.data.tokenizer, chat.ENDS[e.data.template]
        self._room = e.model.max_length - service_messages.MOST
        if self._room < 2:
            raise UserError(
                f"{run} reads {e.model.max_length} tokens: want more than the {service_messages.MOST} of a call"
            )

    def __call__(self, text: str) -> tuple[str, float]:
        """A message -> the call, and the model's probability of it, its end included."""
        call = self.of_own_numbers(text)
        said = tokenizers.encode_with_added(self._tokenizer, call + self._end)
        pair = [self._prompt(text).tolist()], [said.tolist()]
        log_p = scoring.log_likelihoods(self._model, self._variables, *pair, room=self._model.max_length)
        return call, math.exp(float(log_p[0]))

    def of_own_numbers(self, text: str) -> str:
        """A message's call within the schema whose order is one of the numbers in the message."""
        return self.calls([text], self.constraint(service_messages.numbers(text)))[0]

    def constraint(self, orders: Sequence[str] | None = None) -> constraints.Constraint:
        """The schema of a call, of any order or of one of these, over the model's tokens."""
        pattern = constraints.schema_regex(service_messages.schema(orders))
        return constraints.from_regex(pattern, token_bytes.of(self._tokenizer))

    def calls(self, texts: Sequence[str], constraint: constraints.Constraint | None = None) -> list[str]:
        """The reply to each message, token by token the most likely one; free without a constraint.

        Raises UserError if a message leaves no room for a call.
        """
        stop = stop_sequences(self._tokenizer, [self._end])
        options = {"stop": stop} if constraint is None else {"constraint": constraint}
        prompts, calls, rows = [self._prompt(text) for text in texts], list[str](), min(BATCH, len(texts))
        for start in range(0, len(prompts), rows):
            batch = prompts[start : start + rows]
            tokens = decoding.generate(
                self._model, self._variables, [*batch, *batch[:1] * (rows - len(batch))], jax.random.key(0),
                length=service_messages.MOST, temperature=0.0, room=self._room, pad=int(stop[0][0]), **options,
            )  # fmt: skip
            written = [row[len(p) :] for row, p in zip(np.asarray(tokens), batch, strict=False)]
            calls += [self._tokenizer.decode(row).split(self._end)[0] for row in written]
        return calls

    def _prompt(self, text: str) -> np.ndarray:
        tokens = chat.prompt([message("user", text)], self.data.template, self._tokenizer)[1]
        if len(tokens) > self._room:
            raise UserError(
                f"the message has {len(tokens):,} tokens, and the model reads {self._room:,}: make it shorter"
            )
        return tokens


class Errors(NamedTuple):
    """Of the unhappy, how many are missed; of the others, how many are false alarms."""

    missed: int
    unhappy: int
    alarms: int
    others: int

    def __str__(self) -> str:
        missed, alarms = _share(self.missed, self.unhappy), _share(self.alarms, self.others)
        return f"{missed} of the unhappy missed, {alarms} of the others are false alarms"


class Mood:
    """How probable a class is, the unhappy, by a run of text_classification; its threshold is chosen on validation.

    rate  the share of false alarms that the threshold allows there

    Raises UserError if the run is of another family, or has no such class or no validation part.
    """

    def __init__(self, run: str, name: str, rate: float, checkpoint: str = "best"):
        e, state, _ = ask.load(run, checkpoint, "text_classification")
        if name not in e.data.classes:
            raise UserError(
                f"--unhappy={name}: {run} has the classes {', '.join(e.data.classes)}{nearest(name, e.data.classes)}"
            )
        if "valid" not in e.evals:
            raise UserError(f"{run} has no validation part to choose a threshold on; train it with data.valid_fraction")
        self._class, self._e, self._variables = e.data.classes.index(name), e, state.variables
        self._fn = jax.jit(e.predictor.fn)
        self._scored = {split: self._scores(state, batches) for split, batches in e.evals.items()}
        self.threshold = threshold_at_false_alarms(*self._scored["valid"], rate)

    def __call__(self, text: str) -> float:
        outputs = self._fn(self._variables, self._e.predictor.codec.encode(text))
        return float(outputs["probabilities"][0, self._class])

    def errors(self) -> dict[str, Errors]:
        """Of each part, at the threshold."""
        found = {}
        for split, (unhappy, scores) in self._scored.items():
            called = scores >= self.threshold
            counts = (~called & unhappy).sum(), unhappy.sum(), (called & ~unhappy).sum(), (~unhappy).sum()
            found[split] = Errors(*map(int, counts))
        return found

    def _scores(self, state: Any, batches: Any) -> tuple[np.ndarray, np.ndarray]:
        probabilities, labels = probabilities_and_labels(self._e, state, batches)
        return labels == self._class, probabilities[:, self._class]


def measured(caller: Caller, mood: Mood) -> Iterator[str]:
    """Lines on both parts, on the last of their parts of the data: the test's, where there is one."""
    yield f"mood, threshold {mood.threshold:.4f}"
    yield from (f"  {split}: {errors}" for split, errors in mood.errors().items())
    split, talks = list(caller.data.parts.items())[-1]
    texts = [talk.messages[-2]["content"] for talk in talks]
    written = {
        "free": caller.calls(texts),
        "within the schema": caller.calls(texts, caller.constraint()),
        "within the schema, of the message's own numbers": [caller.of_own_numbers(text) for text in texts],
    }
    for name, replies in written.items():
        yield f"calls, {split}, {name}"
        calls = [conversation.parse(text) for text in replies]
        for kind in dict.fromkeys(talk.kind for talk in talks):
            rows = [i for i, talk in enumerate(talks) if talk.kind == kind]
            right = sum(calls[i] == conversation.parse(talks[i].reply) for i in rows)
            refused = sum(calls[i] is None or not _stands(calls[i], texts[i]) for i in rows)
            yield f"  {kind}: {_share(right, len(rows))} right, {refused} refused"


def _stands(call: dict[str, str], text: str) -> bool:
    return "order" not in call or conversation.stands_in(call["order"], text)


def _share(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{count / max(total, 1):.3f} ({count} of {total}, {low:.3f} to {high:.3f})"
