"""Retrieval: questions and passages as separate rows of tokens, for dual encoders, and all passages of a split."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Baseline, Codec, Dataset, Embedding
from research.data import codecs, tokenizers, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import questions
from research.data.text.questions import Corpus, Questions
from research.data.text.spans import filled, vocabulary_text
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError


@codecs.register("token_rows")
class TokenRows:
    """Texts -> {"tokens": i32[n, length], "mask": f32[n, length]}; a longer text is cut.

    If the tokenizer has [CLS] and [SEP], each text is between them. Raises UserError, naming the config's `key`, if `length`
    leaves no room.
    """

    def __init__(self, tokenizer: Tokenizer, length: int, key: str):
        self._ends = [tokenizer.special[name] for name in ("cls", "sep") if name in tokenizer.special]
        if len(self._ends) == 1 or length <= len(self._ends):
            raise UserError(f"{key} = {length} has no room for a token")
        self.tokenizer, self.length, self.key = tokenizer, length, key
        self.room = length - len(self._ends)  # tokens of a text

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        return self.of_tokens([self.tokenizer.encode(text) for text in texts])

    def of_tokens(self, tokens: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        pad, rows = self.tokenizer.special["pad"], [row[: self.room] for row in tokens]
        if self._ends:
            rows = [np.concatenate([self._ends[:1], row, self._ends[1:]]) for row in rows]
        mask = filled([np.ones(len(row)) for row in rows], self.length).astype(np.float32)
        return {"tokens": filled(rows, self.length, pad), "mask": mask}


class QuestionPassagePairs:
    """A random-access source of {"question", "passage": i32, "question_mask", "passage_mask": f32, "number": i32[n]}.

    number identifies the passage, so that rows of the same passage can be recognised. `queries` and `passages` are the
    token rows of all questions and of all passages; the passage of query i is `data.passage_index[i]`.
    """

    def __init__(self, data: Questions, question: TokenRows, passage: TokenRows):
        self.data, self.queries, self.passages = data, question(data.questions), passage(data.passages)
        self._passage_index = np.asarray(data.passage_index, np.int32)

    def __len__(self) -> int:
        return len(self.data)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        numbers = self._passage_index[indices]
        return {
            "question": self.queries["tokens"][indices],
            "question_mask": self.queries["mask"][indices],
            "passage": self.passages["tokens"][numbers],
            "passage_mask": self.passages["mask"][numbers],
            "number": numbers,
        }


class Retrieval(Dataset):
    """Batches of `QuestionPassagePairs`; the tokenizer is trained on the training part.

    corpus       the questions and passages as text
    token_rows   {"question", "passage": texts -> rows of tokens}
    rank         questions -> {metric: value of a search without training}, for the baselines
    """

    def __init__(
        self, corpus: Corpus, cfg: Mapping[str, Any], seed: int, rank: Callable[[Questions], Mapping[str, float]]
    ):
        self.corpus, self._rank, self.report = corpus, rank, corpus.report
        options = {key: cfg[key] for key in ("vocab_size", "min_count", "lowercase")}
        tokenizer = tokenizers.make(cfg["tokenizer"], vocabulary_text(corpus.train), special=("pad",), **options)
        keys = {"question": "question_length", "passage": "length"}
        self.token_rows = {name: TokenRows(tokenizer, cfg[key], f"data.{key}") for name, key in keys.items()}
        self.train = TrainBatches(self._pairs(corpus.train), cfg["batch_size"], seed)
        size = cfg["eval_batch_size"]
        self.evals = {split: EvalBatches(self._pairs(part), size) for split, part in corpus.held_out.items()}
        self.codec = QuestionAndPassage(**self.token_rows)
        self.tokenizers = (tokenizer,)

    def _pairs(self, part: Questions) -> QuestionPassagePairs:
        return QuestionPassagePairs(part, **self.token_rows)

    def baselines(self) -> Mapping[str, Baseline]:
        return {
            f"{split}/{name}": Baseline({"BM25": value})
            for split, part in self.corpus.held_out.items()
            for name, value in self._rank(part).items()
        }


@codecs.register("question_and_passage")
@dataclasses.dataclass(frozen=True)
class QuestionAndPassage(Codec):
    """(question, passage) <-> a score."""

    question: TokenRows
    passage: TokenRows

    takes = "question and passage"

    @property
    def inputs(self) -> dict[str, tuple]:
        rows = {"question": self.question, "passage": self.passage}
        tokens = {name: (("b", each.length), "int32") for name, each in rows.items()}
        return tokens | {f"{name}_mask": (("b", each.length), "float32") for name, each in rows.items()}

    def encode(self, value: tuple[str, str]) -> dict[str, np.ndarray]:
        """(question, passage) -> one row of `inputs`. Raises UserError if either is empty."""
        if not all(text.strip() for text in value):
            raise UserError("want a question in the first line, and after it the passage")
        question, passage = value
        return _inputs(self.question([question]), self.passage([passage]))

    @property
    def embeddings(self) -> dict[str, Embedding]:
        kinds = {"passage": ("passage", self.passage), "query": ("question", self.question)}
        return {kind: Embedding(self._both, name, rows.tokenizer, rows.room) for kind, (name, rows) in kinds.items()}

    def _both(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """One text as the question and as the passage: each has its own vector, whatever the other is."""
        return _inputs(self.question.of_tokens([tokens]), self.passage.of_tokens([tokens]))

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """{"score": f32[1], ...} -> the pair's score, comparable only with other passages' scores for the same question."""
        return {"score": round(float(np.asarray(outputs["score"])[0]), 4)}

    def read(self, file: Path) -> tuple[str, str]:
        return user_files.read_pair(file)


def _inputs(question: Mapping[str, np.ndarray], passage: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of tokens -> the inputs of a dual encoder."""
    return {
        "question": question["tokens"], "question_mask": question["mask"],
        "passage": passage["tokens"], "passage_mask": passage["mask"],
    }  # fmt: skip


def load(cfg: Mapping[str, Any], seed: int, rank: Callable[[Questions], Mapping[str, float]]) -> Retrieval:
    """The data set of a config's `data` group; `rank` as in `Retrieval`. Raises UserError if its values are invalid."""
    return Retrieval(questions.answered(questions.load(cfg)), cfg, seed, rank)
