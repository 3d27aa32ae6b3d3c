"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.algorithms.defaults import FINETUNE
from research.core import config
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "bert": "research.models.text.bert.Encoder",
    "bilstm": "experiments.token_labelling.model.BiLSTM",
}


def base(**changes: Any) -> ConfigDict:
    bert = changes.get("model", {}).get("name", "bert") == "bert"
    own = dict(num_heads=4, width=64) if bert else {}
    return config.merge(
        config.family_defaults(
            data=dict(
                source="punctuation",  # punctuation, sst_words, peoples_daily_segmentation, peoples_daily_pos, conll
                path=None,  # conll: a file of words and labels in columns, or a folder with train, valid and test
                scheme=None,  # conll: bio, iob1, bioes or none; None reads it off the labels
                valid_fraction=None,  # conll: of train, where there is no valid; default 0.1
                tokenizer="bpe",  # wordpiece, word, char, jieba, bpe, unigram
                vocab_size=None,  # bpe, unigram: tokens to learn; word, jieba: the commonest, None is all
                min_count=None,  # word, jieba, char: seen so often in the training text, default 1
                lowercase=None,  # word, jieba: default False
                length=64,  # tokens a row, T
                batch_size=32,  # rows a step over all devices, B
                eval_batch_size=64,
            ),
            model=dict(
                model_keys.of_model(MODELS, changes, "bert"),
                **own,
                crf=False,  # a chain over the labels of a row's words
            ),
            finetune=FINETUNE,
            num_steps=1_000,
            log_every=20,
            eval_every=100,
            save_every=100,
            best=dict(metric="valid/macro_f1", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
