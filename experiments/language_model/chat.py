"""A conversation with a language model: its history, and replies that are generated as a stream."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.core.experiment import Experiment
from research.data import user_files
from research.data.text import chat, dialogues
from research.data.text.conversations import Message, message
from research.generation import decoding
from research.generation.text_stream import stop_sequences, stream_text
from research.util.errors import UserError


class Chat:
    """A conversation, which `reply` continues.

    messages  the history: the system text, if any, then turns of the user and the assistant
    size      tokens of the context, at most, with the reply
    context   tokens of the last prompt and its reply; `generated`, those of the reply; `dropped`, the exchanges left out

    The prompt is read anew for each reply. It has one shape where the model can discard padding, so it is compiled once.
    """

    def __init__(
        self, options: Mapping[str, Any], e: Experiment, state: Any, key: jax.Array, *, system: str | None = None,
        stop: Sequence[str] = (), length: int | None = None, chat_template: Path | None = None, **overrides: Any,
    ):  # fmt: skip
        """`options` are those of `cfg.sample`, which the keywords override, except `length`, the tokens of a reply, at most:
        a quarter of the context, or 128 where that is unlimited.

        Raises UserError if an option is out of range or a file cannot be read.
        """
        self._model, self._variables, self._tokenizer, self._key = e.model, state.variables, e.data.tokenizer, key
        self.size = e.model.max_length
        self._length = (self.size // 4 if decoding.rewinds(e.model) else 128) if length is None else length
        if not 1 <= self._length < self.size:
            raise UserError(f"--length={self._length}: at least 1 and below the {self.size:,} tokens of the context")
        if "" in stop or (system is not None and not system.strip()):
            raise UserError("--stop and --system: want a text of one character or more")
        default = chat.template_of(self._tokenizer)
        self._template = default if chat_template is None else user_files.read(chat_template)
        self._stop = [*stop, *([chat.ENDS[self._template]] if self._template in chat.ENDS else [])]
        settings = {k: v for k, v in {**options, **overrides}.items() if k not in ("prompt", "length")}
        decoding.check_settings(settings)
        self._settings = {**settings, "stop": stop_sequences(self._tokenizer, self._stop), "block": 4}
        self._system = [] if system is None else [message("system", system)]
        self.messages: list[Message] = [*self._system]
        self.context = self.generated = self.dropped = self._turn = 0

    def reset(self) -> None:
        """Forgets the history, except the system text."""
        self.messages = [*self._system]

    def reply(self, text: str) -> Iterator[str]:
        """Yields the reply to a user's text in pieces. When it ends, or is closed, the history has both; an empty reply is none.

        The oldest exchanges are left out of the prompt, and of the history, until it leaves room for the reply. Raises UserError
        if the text alone is too long, or has a character outside the vocabulary: the history is then as before.
        """
        asked = [*self.messages, message("user", text)]
        tokens, self.dropped = self._prompt(asked)
        key, room = jax.random.fold_in(self._key, self._turn), self.size - self._length
        columns = decoding.generate_stream(
            self._model, self._variables, [tokens], key, length=self._length,
            room=room if decoding.rewinds(self._model) else 0, **self._settings,
        )  # fmt: skip
        return self._stream(asked, len(tokens), columns)

    def _prompt(self, asked: Sequence[Message]) -> tuple[np.ndarray, int]:
        """-> the tokens of the prompt, and the exchanges that were left out."""
        room = self.size - self._length
        fitted = dialogues.fit(
            asked, lambda m: chat.prompt(m, self._template, self._tokenizer)[1], lambda tokens: len(tokens) <= room
        )
        if fitted is None:
            raise UserError(
                f"the message alone is longer than the {room:,} tokens that a reply of {self._length:,} leaves"
            )
        return fitted

    def _stream(self, asked: list[Message], prompt: int, columns: Iterator) -> Iterator[str]:
        first = int(asked[0]["role"] == "system")
        kept = [*asked[:first], *asked[first + 2 * self.dropped :]]
        said, drawn = "", 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal drawn
            for column in columns:
                drawn += 1
                yield column

        try:
            for piece in stream_text(self._tokenizer, "", np.zeros(0, np.int32), counted(), self._stop):
                said += piece
                yield piece
        finally:
            self.generated, self.context = drawn, prompt + drawn
            self._turn += 1
            if said.strip():
                self.messages = [*kept, message("assistant", said)]
