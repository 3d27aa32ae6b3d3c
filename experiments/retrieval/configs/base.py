"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "bag": "research.models.text.dual_encoder.BagEncoder",
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
                tokenizer="bpe",  # bpe, unigram, word, char, jieba, wordpiece
                vocab_size=None,  # bpe, unigram: so many; word, jieba: at most so many
                min_count=None,  # word, jieba, char: seen so often in the training part, default 1
                lowercase=None,  # word, jieba: default False
                length=160,  # T: tokens of a passage; the rest is cut off
                question_length=32,  # Q: tokens of a question; the rest is cut off
                batch_size=64,  # pairs a step over all devices, B: each question has B - 1 negatives
                eval_batch_size=64,
            ),
            model=_model(changes),
            num_steps=1_000,
            log_every=20,
            eval_every=200,
            save_every=200,
            best=dict(metric="valid/mrr", mode="max", patience=None),
        ),
        **changes,
    )


def _model(changes: dict) -> dict:
    group = model_keys.of_model(MODELS, changes, "bag") | model_keys.fields(
        "research.models.text.dual_encoder.DualEncoder"
    )
    # Rows of the position table; None is the longer of data.length and data.question_length.
    return {**group, "max_length": None} if group["name"] == "bert" else group
