"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="pydoc",  # pydoc, tiny_shakespeare, wikitext2, files
                path=None,  # files: a UTF-8 file, or a folder of .txt, .md, .jsonl; a file or a row is a document
                valid_fraction=None,  # files: default 0.1
                text_key=None,  # files: the key of a .jsonl's text, default "text"
                clean=None,  # files: True makes characters and white space plain
                deduplicate=None,  # files: exact, near; leaves documents out that say what another says
                tokenizer="bpe",  # wordpiece, bpe, unigram, word, char, jieba
                vocab_size=None,  # bpe, unigram: tokens to learn; word, jieba: the commonest, None is all
                length=64,  # tokens a pair of segments, T
                short=0.1,  # share of the pairs that are cut to a random length
                mask_rate=0.15,  # share of the tokens to be told
                predictions=None,  # at most so many in a pair, P; None is mask_rate of T
                whole_word=False,  # wordpiece: all pieces of a word or none
                batch_size=32,  # pairs a step over all devices, B
                eval_batch_size=64,
            ),
            model=model_keys.fields("research.models.text.bert.Encoder"),
            num_steps=2_000,
            log_every=20,
            eval_every=250,
            save_every=250,
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
