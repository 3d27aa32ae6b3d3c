"""Ranking of passages by a dual encoder, and by BM25 as a baseline."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from research.data.text.pairs import QuestionPassagePairs, Retrieval
from research.data.text.questions import Questions
from research.evals import ranking
from research.models.text.bm25 import BM25
from research.models.text.dual_encoder import DualEncoder


class Retriever:
    """Embeds texts with a dual encoder, in batches of `batch_size`. `kind` is "questions" or "passages"."""

    def __init__(self, model: DualEncoder, data: Retrieval, batch_size: int):
        self._token_rows = {"questions": data.token_rows["question"], "passages": data.token_rows["passage"]}
        self._apply = {
            kind: jax.jit(lambda variables, tokens, mask, kind=kind: model.apply(variables, tokens, mask, method=kind))
            for kind in self._token_rows
        }
        self._batch_size = batch_size

    def embed(self, variables: Any, kind: str, texts: list[str]) -> np.ndarray:
        """The embeddings of n texts, f32[n, D]."""
        return self.embed_rows(variables, kind, self._token_rows[kind](texts))

    def embed_rows(
        self, variables: Any, kind: str, rows: Mapping[str, np.ndarray], after_batch: Callable[[], Any] = lambda: None
    ) -> np.ndarray:
        """{"tokens": i32[n, T], "mask": f32[n, T]} -> embeddings f32[n, D]."""
        count, vectors = len(rows["tokens"]), []
        for start in range(0, count, self._batch_size):
            batch = [rows[name][start : start + self._batch_size] for name in ("tokens", "mask")]
            padding = self._batch_size - len(batch[0])  # pads to one shape, so that it is compiled once
            batch = [np.pad(array, [(0, padding), (0, 0)]) for array in batch]
            vectors.append(jax.device_get(self._apply[kind](variables, *batch))[: self._batch_size - padding])
            after_batch()
        return np.concatenate(vectors)

    def score(
        self, variables: Any, pairs: QuestionPassagePairs, after_batch: Callable[[], Any] = lambda: None
    ) -> dict[str, float]:
        """{"recall_at_1", "recall_at_5", "recall_at_20", "mrr"} of each question's own passage among all passages."""
        queries = self.embed_rows(variables, "questions", pairs.queries, after_batch)
        passages = self.embed_rows(variables, "passages", pairs.passages, after_batch)
        return ranking.report(ranking.ranks(queries @ passages.T, np.asarray(pairs.data.passage_index)))


def bm25(part: Questions) -> dict[str, float]:
    """The metrics of `Retriever.score` for BM25."""
    index = BM25(part.passages)
    scores = np.stack([index.scores(question) for question in part.questions])
    return ranking.report(ranking.ranks(scores, np.asarray(part.passage_index)))
