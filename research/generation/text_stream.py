"""Generated tokens as text: pieces that can be shown as they come, up to a text that ends it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from research.data import tokenizers
from research.util.errors import UserError


class TextStream:
    """The text that tokens add to a prompt, up to the first stop. What may become a stop is held back.

    `stopped` says whether there was one.
    """

    def __init__(self, tokenizer: Any, prompt: str, tokens: np.ndarray, stop: Sequence[str] = ()):
        """`tokens` i[T] are those of `prompt`: both are decoded together, because spacing depends on neighbouring tokens."""
        self._tokenizer, self._prompt, self._stop = tokenizer, prompt, stop
        self._ids, self._skipped = [*tokens.tolist()], len(tokenizer.decode(tokens))
        self._text, self._shown, self.stopped = prompt, len(prompt), False

    def push(self, token: int) -> str:
        """What can be shown after one more token."""
        self._ids.append(token)
        start = len(self._prompt)
        text = self._prompt + self._tokenizer.decode(np.asarray(self._ids))[self._skipped :]
        if ends := [at for s in self._stop if (at := text.find(s, start)) >= 0]:
            self._text, self.stopped = text[: min(ends)], True
            return self.rest()
        self._text = text.rstrip("\ufffd")  # the last character may be incomplete
        return self._show(len(self._text) - _partial_stop(self._text[start:], self._stop))

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        return self._show(len(self._text))

    def _show(self, end: int) -> str:
        piece = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece


def stream_text(
    tokenizer: Any, prompt: str, tokens: np.ndarray, columns: Iterator, stop: Sequence[str]
) -> Iterator[str]:
    """Yields the prompt, then the text that each column of one token adds, up to the first stop."""
    stream = TextStream(tokenizer, prompt, tokens, stop)
    yield prompt
    for column in columns:
        yield stream.push(int(column[0]))
        if stream.stopped:
            return
    yield stream.rest()


def stop_sequences(tokenizer: Any, stop: Sequence[str]) -> list[np.ndarray]:
    """The tokens of each stop, for those that decode to the stop again.

    `TextStream` finds another stop in the text: it occurs in other tokens, or never, with a character outside the vocabulary.
    """
    sequences = []
    for text in stop:
        try:
            ids = tokenizers.encode_with_added(tokenizer, text)
        except UserError:
            continue
        if len(ids) and tokenizer.decode(ids) == text:
            sequences.append(ids)
    return sequences


def _partial_stop(text: str, stop: Sequence[str]) -> int:
    """The length of the longest end of a text with which one of the stops begins.

    >>> _partial_stop("a<|im", ["<|im_end|>", "m"]), _partial_stop("a b", ["c"])
    (4, 0)
    """
    lengths = range(max((len(s) for s in stop), default=0) - 1, 0, -1)
    return next((n for n in lengths if n <= len(text) and any(s.startswith(text[-n:]) for s in stop if len(s) > n)), 0)
