"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "bidaf": "research.models.text.bidaf.BiDAF",
    "bert": "research.models.text.bert.Encoder",
}


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="generated",  # generated, squad, files
                path=None,  # files: a .json in SQuAD's form
                valid_fraction=None,  # squad: default 0.02 of the articles to train on; files: default 0.1
                passages=None,  # generated: to train on, default 1,500
                tokenizer="word",  # word, char, jieba; bert: also wordpiece, bpe, unigram
                vocab_size=None,  # word, jieba: at most so many; bpe, unigram: so many
                min_count=None,  # word, char, jieba: times that one was seen, default 1
                lowercase=None,  # word, jieba: of the vectors; characters keep their case
                char_min_count=None,  # bidaf: times that a character was seen, or it is unknown
                length=96,  # T: tokens of a passage's window (bidaf), of the whole row (bert)
                question_length=24,  # Q: tokens of a question; the rest is cut off
                word_length=None,  # bidaf: W, characters of a word; the rest is cut off
                stride=48,  # tokens between the beginnings of a long passage's windows
                negatives=0.0,  # of the rows show a passage without the answer; needs model.null
                batch_size=32,  # windows a step over all devices, B
                eval_batch_size=32,
            ),
            model=_model(changes),
            answer=dict(
                max_length=16,  # tokens
                n_best=20,  # spans of a window that are weighed against each other
                accuracy=0.9,  # of the answers that `almanac ask` gives: its threshold is chosen for it
            ),
            num_steps=1_000,
            log_every=20,
            eval_every=200,
            save_every=200,
            best=dict(metric="valid/f1", mode="max", patience=None),
        ),
        **changes,
    )


def _model(changes: dict) -> dict:
    group = model_keys.of_model(MODELS, changes, "bidaf")
    # Rows of the position table; None is data.length.
    return {**group, "max_length": None} if group["name"] == "bert" else group
