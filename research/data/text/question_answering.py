"""Question answering: batches of questions and windows of passages."""

from collections.abc import Mapping
from typing import Any

from research.core.experiment import Codec, Dataset
from research.data import tokenizers, user_files
from research.data.pipeline import EvalBatches, TrainBatches
from research.data.text import spans
from research.data.text.questions import Corpus, Questions
from research.util.errors import UserError


class QuestionAnswering(Dataset):
    """Batches of the layout's inputs with "start", "end": i32[B], the answer's first and last position, 0 for no answer.

    corpus       the questions, passages and answers as text
    layout       converts a question and a window of its passage to a row
    no_answer    whether the model can predict that a window has no answer; if not, windows without one are not trained on
    codec        of the layout: a question and a passage <-> a span
    """

    def __init__(
        self,
        corpus: Corpus,
        layout: spans.Layout,
        cfg: Mapping[str, Any],
        seed: int,
        *,
        no_answer: bool,
        codec: Codec,
    ):
        if cfg["negatives"] and not no_answer:
            raise UserError(f"data.negatives = {cfg['negatives']} wants a model that can say so: set model.null")
        self.corpus, self.layout, self._stride, self.codec = corpus, layout, cfg["stride"], codec
        train = self.windows(corpus.train, answered=not no_answer, negatives=cfg["negatives"], seed=seed)
        self.train = TrainBatches(train, cfg["batch_size"], seed)
        size = cfg["eval_batch_size"]
        self.evals = {split: EvalBatches(self.windows(part), size) for split, part in corpus.held_out.items()}
        self.tokenizers = (layout.tokenizer,)
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


def apart(cfg: Mapping[str, Any], train: Questions) -> spans.Apart:
    """The layout `Apart`, its vocabularies from the training part. Raises UserError if the tokenizer cuts words to pieces."""
    text = spans.vocabulary_text(train)
    options = {key: cfg[key] for key in ("vocab_size", "min_count", "lowercase")}
    tokenizer = tokenizers.make(cfg["tokenizer"], text, special=("pad",), **options)
    if not isinstance(tokenizer, tokenizers.plain.Word | tokenizers.plain.Char):
        raise UserError(
            f"data.tokenizer = {cfg['tokenizer']!r}: bidaf reads words and their characters, not pieces; "
            "set 'word', or for Chinese 'jieba' or 'char'"
        )
    lengths = (cfg[key] for key in ("length", "question_length", "word_length"))
    return spans.Apart(tokenizer, spans.alphabet(text, cfg["char_min_count"]), *lengths)


def joined(cfg: Mapping[str, Any], train: Questions) -> spans.Joined:
    """The layout `Joined`, its tokenizer trained on the training part."""
    text = spans.vocabulary_text(train)
    options = {key: user_files.option(cfg, key, None) for key in ("vocab_size", "min_count", "lowercase")}
    tokenizer = tokenizers.make(cfg["tokenizer"], text, special=spans.SPECIAL, **options)
    return spans.Joined(tokenizer, cfg["length"], cfg["question_length"])
