"""The bodies of OpenAI's API: answers, the chunks of a stream, log-probabilities, usage."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.serving.jobs import Token
from research.serving.web.completion import Piece


class Answer:
    """Makes the bodies of one answer, whole or in chunks."""

    prefix, kind, chunk_kind = "", "", ""

    def __init__(self, model: str, version: str, tokenizer: Any, prompt: int, top: int | None):
        """`prompt` is its number of tokens, and `top` the alternatives to report of each token; None: no log-probabilities."""
        self._common = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": version,
        }
        self._tokenizer, self._prompt, self._top = tokenizer, prompt, top
        self._generated = self._offset = 0

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        choice = {"index": 0, "finish_reason": pieces[-1].reason, "logprobs": self._logprobs(pieces)}
        return {**self._common, "object": self.kind, "choices": [choice | self._content(text)], "usage": self.usage()}

    def first(self) -> list[dict[str, Any]]:
        """Chunks before the first piece."""
        return []

    def chunk(self, piece: Piece) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": piece.reason, "logprobs": self._logprobs([piece])}
        return {**self._common, "object": self.chunk_kind, "choices": [choice | self._part(piece.text)]}

    def last(self) -> dict[str, Any]:
        """The chunk of a stream that was asked for its usage."""
        return {**self._common, "object": self.chunk_kind, "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        total = self._prompt + self._generated
        return {"prompt_tokens": self._prompt, "completion_tokens": self._generated, "total_tokens": total}

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        tokens = [piece.token for piece in pieces if piece.token is not None]
        self._generated += len(tokens)
        return None if self._top is None else self._of_tokens(tokens)

    def _string(self, token: int) -> str:
        return self._tokenizer.decode(np.array([token]))

    def _alternatives(self, token: Token) -> list[tuple[str, float]]:
        pairs = zip(token.top[: self._top], token.top_logprobs[: self._top], strict=True)
        return [(self._string(i), _finite(p)) for i, p in pairs]

    def _content(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def _part(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def _of_tokens(self, tokens: Sequence[Token]) -> dict[str, Any]:
        raise NotImplementedError


class Completion(Answer):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def _content(self, text: str) -> dict[str, Any]:
        return {"text": text}

    _part = _content

    def _of_tokens(self, tokens: Sequence[Token]) -> dict[str, Any]:
        strings = [self._string(token.id) for token in tokens]
        offsets = []
        for string in strings:
            offsets.append(self._offset)
            self._offset += len(string)
        return {
            "tokens": strings,
            "token_logprobs": [_finite(token.logprob) for token in tokens],
            "top_logprobs": [dict(self._alternatives(token)) for token in tokens],
            "text_offset": offsets,
        }


class ChatCompletion(Answer):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def first(self) -> list[dict[str, Any]]:
        choice = {"index": 0, "finish_reason": None, "logprobs": None}
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [{**self._common, "object": self.chunk_kind, "choices": [choice | delta]}]

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _part(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def _of_tokens(self, tokens: Sequence[Token]) -> dict[str, Any]:
        def entry(string: str, logprob: float) -> dict[str, Any]:
            whole = "\ufffd" not in string  # else it is a part of a character
            return {"token": string, "logprob": logprob, "bytes": list(string.encode()) if whole else None}

        content = [
            entry(self._string(token.id), _finite(token.logprob))
            | {"top_logprobs": [entry(*pair) for pair in self._alternatives(token)]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI's API says -9999 for a token that cannot be."""
    return max(float(logprob), -9999.0)
