"""Questions and passages as separate rows of tokens, for encoders that never see both: one pair a row, and all passages."""

from collections.abc import Sequence

import numpy as np

from research.data.text.questions import Questions
from research.data.text.spans import filled
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError


class Encoded:
    """Texts -> {"tokens": i32[n, length], "mask": f32[n, length]}; a longer text is cut off.

    Where the tokenizer has [CLS] and [SEP] they stand around each text.
    """

    def __init__(self, tokenizer: Tokenizer, length: int, key: str):
        self._around = [tokenizer.special[name] for name in ("cls", "sep") if name in tokenizer.special]
        if len(self._around) == 1 or length <= len(self._around):
            raise UserError(f"{key} = {length} has no room for a token")
        self._tokenizer, self.length = tokenizer, length

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        pad, room = self._tokenizer.special["pad"], self.length - len(self._around)
        rows = [self._tokenizer.encode(text)[:room] for text in texts]
        if self._around:
            rows = [np.concatenate([self._around[:1], row, self._around[1:]]) for row in rows]
        mask = filled([np.ones(len(row)) for row in rows], self.length).astype(np.float32)
        return {"tokens": filled(rows, self.length, pad), "mask": mask}


class QuestionPassagePairs:
    """A random-access source of {"question", "passage": i32, "question_mask", "passage_mask": f32, "number": i32[n]}.

    number is the passage's, by which rows of the same passage are known. `asked` and `told` are all questions and passages.
    """

    def __init__(self, data: Questions, question: Encoded, passage: Encoded):
        self.data, self.asked, self.told = data, question(data.asked), passage(data.passages)
        self._where = np.asarray(data.where, np.int32)

    def __len__(self) -> int:
        return len(self.data)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        where = self._where[indices]
        return {
            "question": self.asked["tokens"][indices],
            "question_mask": self.asked["mask"][indices],
            "passage": self.told["tokens"][where],
            "passage_mask": self.told["mask"][where],
            "number": where,
        }
