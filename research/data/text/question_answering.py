"""Question answering: batches of questions and passage windows, and the conversion from a question and passage to a span."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.core.experiment import Dataset
from research.data import tokenizers, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import spans
from research.data.text.questions import Corpus, Questions
from research.util.errors import UserError

# Logits f32[1, L] of a span's first and last position -> the best span's score, first and last position, [1, 1] each.
BestSpan = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


class QuestionAnswering(Dataset):
    """Batches of the layout's inputs with "start", "end": i32[B], the answer's first and last position, 0 for no answer.

    corpus       the questions, passages and answers as text
    layout       converts a question and a window of its passage to a row
    no_answer    whether the model can predict that a window has no answer; if not, windows without one are not trained on
    best_span    the span that `decode` returns: `research.evals.spans.best_spans` with a longest span
    """

    def __init__(
        self,
        corpus: Corpus,
        layout: spans.Layout,
        cfg: Mapping[str, Any],
        seed: int,
        *,
        no_answer: bool,
        best_span: BestSpan,
    ):
        if cfg["negatives"] and not no_answer:
            raise UserError(f"data.negatives = {cfg['negatives']} wants a model that can say so: set model.null")
        self.corpus, self.layout, self._stride, self._best_span = corpus, layout, cfg["stride"], best_span
        train = self.windows(corpus.train, answered=not no_answer, negatives=cfg["negatives"], seed=seed)
        self.train = TrainBatches(train, cfg["batch_size"], seed)
        size = cfg["eval_batch_size"]
        self.evals = {split: EvalBatches(self.windows(part), size) for split, part in corpus.held_out.items()}
        self.inputs, self.tokenizers = layout.inputs, (layout.tokenizer,)
        left_out = f"; {train.unanswered:,} hold no whole answer" if train.unanswered else ""
        windows = f"windows  {len(train):,} of {len(corpus.train):,} questions to train{left_out}"
        self.report = [*corpus.report, windows]
        none = sum(not answers for part in [corpus.train, *corpus.held_out.values()] for answers in part.answers)
        if none and not no_answer:
            self.report.append(
                f"warning  {none:,} questions have no answer, and this model always gives one: set model.null"
            )

    def windows(self, questions: Questions, **options: Any) -> spans.Windows:
        """Windows of any questions in the model's layout; `options` of `spans.Windows`."""
        return spans.Windows(questions, self.layout, self._stride, **options)

    def encode(self, value: tuple[str, str]) -> dict[str, np.ndarray]:
        """(question, passage) -> a row of the layout's inputs. Raises UserError if either is empty, or the passage too long."""
        question, passage = (self.layout.tokens(text).numbers for text in value)
        if not len(question) or not len(passage):
            raise UserError("want a question in the first line, and after it the passage")
        if len(passage) > (room := self.layout.room(question)):
            raise UserError(f"{len(passage)} tokens of passage are more than the {room} of a window; try `almanac ask`")
        return self.layout.rows([question], [passage])

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """{"start", "end": logits f32[1, L]} -> the top-1 span's first and last position, and its probability.

        In `Apart`, position 1 is the passage's first word.
        """
        start, end = (jnp.asarray(outputs[name]) for name in ("start", "end"))
        score, first, last = (np.asarray(x).item() for x in self._best_span(start, end))
        probability = np.exp(score - sum(float(jax.nn.logsumexp(logits)) for logits in (start, end)))
        return {"first": first, "last": last, "probability": round(float(probability), 4)}

    def read(self, file: Path) -> tuple[str, str]:
        return user_files.read_pair(file)


def apart(cfg: Mapping[str, Any], train: Questions) -> spans.Apart:
    """The layout `Apart`, its vocabularies from the training part. Raises UserError if the tokenizer is not one of words."""
    text = spans.vocabulary_text(train)
    options = {key: cfg[key] for key in ("vocab_size", "min_count", "lowercase")}
    tokenizer = tokenizers.make(cfg["tokenizer"], text, **options)
    if not isinstance(tokenizer, tokenizers.plain.Word):
        raise UserError(f"data.tokenizer = {cfg['tokenizer']!r}: bidaf reads words; set 'word'")
    lengths = (cfg[key] for key in ("length", "question_length", "word_length"))
    return spans.Apart(tokenizer, spans.alphabet(text, cfg["char_min_count"]), *lengths)


def joined(cfg: Mapping[str, Any], train: Questions) -> spans.Joined:
    """The layout `Joined`, its tokenizer trained on the training part."""
    text = spans.vocabulary_text(train)
    tokenizer = tokenizers.make(cfg["tokenizer"], text, vocab_size=cfg["vocab_size"])
    return spans.Joined(tokenizer, cfg["length"], cfg["question_length"])
