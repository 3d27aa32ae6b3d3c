"""Replies of a language model to held-out conversations, compared with the one right form where there is one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.core.experiment import Evaluated
from research.data.text import chat, dialogues
from research.data.text.conversations import Conversation, Message
from research.evals.exact_match import exact_match
from research.generation import decoding
from research.generation.text_stream import stop_sequences
from research.util.files import write_text

BATCH = 64  # conversations generated at once
SHOWN = 8  # conversations in replies.txt


class Replied(NamedTuple):
    """Conversations, and the model's replies in place of their last."""

    talks: Sequence[Conversation]
    replies: list[str]

    def share(self, kind: str | None = None) -> float:
        """Of replies whose answer is the right one, of one kind or of all."""
        pairs = [pair for pair in zip(self.talks, self.replies, strict=True) if kind in (None, pair[0].kind)]
        return exact_match([talk.answer_in(reply) for talk, reply in pairs], [talk.answer for talk, _ in pairs])

    def write(self, file: Path) -> None:
        rows = []
        for talk, reply in list(zip(self.talks, self.replies, strict=True))[:SHOWN]:
            turns = "".join(f"{each['role']:<11}{each['content']}\n" for each in talk.messages)
            rows.append(f"{turns}{'model':<11}{reply}\n")
        write_text(file, "\n".join(rows))


class Replies:
    """The evaluator of conversations that have a kind: `exact_KIND`, and `exact` of all.

    Replies are decoded greedily. `exact_alone`, where there is a history, is of the last message with nothing before it: what
    the model then gets right it does not have from the conversation.
    """

    def __init__(self, model: Any, data: dialogues.Dialogues):
        self._model, self._data = model, data

    def __call__(self, state: Any, split: str, folder: Path, after_batch: Callable[[], Any]) -> Evaluated:
        del folder
        talks = [talk for talk in self._data.parts.get(split, []) if talk.kind is not None]
        if not talks:
            return Evaluated({})
        replied = Replied(talks, self.generate(state, talks, [talk.messages[:-1] for talk in talks], after_batch))
        values = {f"exact_{kind}": replied.share(kind) for kind in dialogues.kinds(talks)}
        values["exact"] = replied.share()
        if any(len(talk.messages) > 2 for talk in talks):
            last = [talk.messages[-2:-1] for talk in talks]
            values["exact_alone"] = Replied(talks, self.generate(state, talks, last, after_batch)).share()
        return Evaluated(values, {f"{split}.replies.txt": replied.write})

    def generate(
        self, state: Any, talks: Sequence[Conversation], asked: Sequence[Sequence[Message]],
        after_batch: Callable[[], Any] = lambda: None,
    ) -> list[str]:  # fmt: skip
        """The reply to each list of messages, of as many tokens as the longest right one, at most."""
        tokenizer, template, size = self._data.tokenizer, self._data.template, self._model.max_length
        end = chat.ENDS[template]
        length = min(1 + max(len(tokenizer.encode(talk.reply)) for talk in talks), size // 2)
        prompts = [self._prompt(messages, size - length) for messages in asked]
        padded = decoding.rewinds(self._model)
        rows, room = (min(BATCH, len(prompts)), max(map(len, prompts))) if padded else (1, 0)
        replies: list[str] = []
        for start in range(0, len(prompts), rows):
            batch = prompts[start : start + rows]
            filled = [*batch, *batch[:1] * (rows - len(batch))]  # one shape, compiled once
            tokens = decoding.generate(
                self._model, state.variables, filled, jax.random.key(0), length=length, temperature=0.0, room=room,
                stop=stop_sequences(tokenizer, [end]),
            )  # fmt: skip
            after = [row[len(p) : len(p) + length] for row, p in zip(np.asarray(tokens), batch, strict=False)]
            replies += [tokenizer.decode(row).split(end)[0] for row in after]
            after_batch()
        return replies

    def _prompt(self, messages: Sequence[Message], room: int) -> np.ndarray:
        """The tokens of the messages, without the oldest exchanges if there are more than `room`; then the last `room`."""
        encode = lambda m: chat.prompt(m, self._data.template, self._data.tokenizer)[1]  # noqa: E731
        fitted = dialogues.fit(messages, encode, lambda tokens: len(tokens) <= room)
        return encode(messages)[-room:] if fitted is None else fitted[0]
