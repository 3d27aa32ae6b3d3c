"""From a user's picture, or a question and a picture, to a model's inputs, and from its tokens to a text."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.captions.model import PAD
from research.data import codecs, user_files
from research.data.images.picture_codecs import Picture
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

DESCRIBE = "describe"  # the prompt of a caption
PROMPT_LENGTH = 12  # tokens; the longest question has eleven


def padded(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """-> i32[n, length], filled up with PAD."""
    return np.array([[*row, *[PAD] * (length - len(row))] for row in rows], np.int32)


@codecs.register("described_picture")
@dataclasses.dataclass(frozen=True)
class Description(Picture):
    """A picture <-> its caption; (a question, a picture) <-> the answer."""

    tokenizer: Tokenizer
    prompt_length: int

    gives = "text"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {**super().inputs, "prompt": (("b", self.prompt_length), "int32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A picture as `Picture.encode` takes it, or (question, picture) -> one row of inputs.

        Raises UserError for any other value, and if the question is empty, too long or has a word outside the vocabulary.
        """
        question, picture = value if isinstance(value, tuple) and len(value) == 2 else (DESCRIBE, value)
        if not isinstance(question, str) or isinstance(picture, str | tuple):
            raise UserError("want a picture, or a question and a picture")
        words = question.replace("?", " ").split()
        ids = self.tokenizer.encode(" ".join(words))
        if unknown := [word for word, i in zip(words, ids, strict=True) if i == self.tokenizer.special["unk"]]:
            raise UserError(f"the question has the word {unknown[0]!r}, which is not in the vocabulary")
        if not 1 <= len(ids) <= self.prompt_length:
            raise UserError(f"a question of {len(ids)} words: want 1 to {self.prompt_length}")
        return {**super().encode(picture), "prompt": padded([ids.tolist()], self.prompt_length)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """{"tokens": i32[1, T], "score": f32[1]} -> the text, and its probability."""
        probability = float(np.exp(np.asarray(outputs["score"])[0]))
        return {"text": self.text(np.asarray(outputs["tokens"])[0]), "probability": round(probability, 4)}

    def handed_on(self, value: Any, decoded: Mapping[str, Any]) -> str:
        return decoded["text"]

    def text(self, ids: np.ndarray) -> str:
        """Target tokens i32[T] up to the first end -> words."""
        ends = np.flatnonzero(ids == self.tokenizer.special["eos"])
        return self.tokenizer.decode(ids[: ends[0]] if len(ends) else ids)

    def read(self, file: Path) -> Any:
        """A picture; or of a .txt (question, picture): the question in the first line, after it the path of its picture."""
        if file.suffix.lower() != ".txt":
            return super().read(file)
        question, path = user_files.read_pair(file)
        if not path.strip():
            raise UserError(f"{file}: want a question in the first line, and in the second the path of its picture")
        return question, super().read(file.parent / path.strip())
