"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.algorithms.defaults import FINETUNE
from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="punctuation",  # punctuation, sst_words
                tokenizer="bpe",  # wordpiece, word, bpe, unigram
                vocab_size=1_024,  # bpe, unigram: tokens to learn; word: the commonest, None is all
                min_count=None,  # word: seen so often in the training text, default 1
                lowercase=None,  # word: default False
                length=64,  # tokens a row, T
                batch_size=32,  # rows a step over all devices, B
                eval_batch_size=64,
            ),
            model=dict(model_keys.fields("research.models.text.bert.Encoder"), num_heads=4, width=64),
            finetune=FINETUNE,
            num_steps=1_000,
            log_every=20,
            eval_every=100,
            save_every=100,
            best=dict(metric="valid/macro_f1", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
