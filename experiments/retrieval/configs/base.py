"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="generated",  # generated, squad, files
                path=None,  # files: a .json in SQuAD's form
                valid_fraction=None,  # squad: default 0.02 of the articles to train on; files: default 0.1
                passages=None,  # generated: to train on, default 1,500
                tokenizer="bpe",  # bpe, unigram, word, wordpiece
                vocab_size=600,  # bpe, unigram: so many; word: at most so many
                min_count=None,  # word
                lowercase=None,  # word
                length=160,  # T: tokens of a passage; the rest is cut off
                question_length=32,  # Q: tokens of a question; the rest is cut off
                batch_size=64,  # pairs a step over all devices, B: each question has B - 1 negatives
                eval_batch_size=64,
            ),
            model=dict(
                name="bag",  # bag, bert
                width=128,  # D
                dropout=0.0,
                shared=True,  # one encoder for questions and passages
                num_layers=None,  # bert
                num_heads=None,
                mlp_width=None,  # None is 4 D
                max_length=None,  # rows of the position table; None is the longer of data.length and question_length
                scan=None,
                remat=None,
            ),
            num_steps=1_000,
            log_every=20,
            eval_every=200,
            save_every=200,
            best=dict(metric="valid/mrr", mode="max", patience=None),
        ),
        **changes,
    )
