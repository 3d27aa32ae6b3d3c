"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "gpt": "research.models.text.gpt.GPT",
    "gru": "research.models.text.recurrent_lm.GRULM",
    "lstm": "research.models.text.recurrent_lm.LSTMLM",
}


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                # pydoc, tiny_shakespeare, wikitext2, files, pydoc_dialogues, service_messages, gsm8k, conversations
                source="pydoc",
                path=None,  # files: a UTF-8 file, or a folder of .txt, .md, .jsonl; conversations: a .jsonl
                conversations=None,  # pydoc_dialogues: how many are made to train on, default 8,000
                valid_fraction=None,  # files, conversations: default 0.1
                text_key=None,  # files: the key of a .jsonl's text, default "text"
                clean=None,  # files: True makes characters and white space plain
                deduplicate=None,  # files: exact, near; leaves documents out that say what another says
                tokenizer="char",  # char, byte, word, jieba, gpt2, wordpiece, bpe, unigram, a tokenizer.json or vocabulary.json
                vocab_size=None,  # bpe, unigram: tokens to learn; word, jieba: at most; None: all; .json: rows of the table
                min_count=None,  # word, jieba, char: seen so often in the training text, default 1
                lowercase=None,  # word, jieba: default False
                length=64,  # tokens a window, T
                stride=None,  # windows begin every so many tokens, and only the token after one is a target; None: every token is
                packing=None,  # gpt: True fills windows with whole documents, none looking at another; else running text
                carry=None,  # True: a row goes on where it was in the batch before, with its state (lstm, gru)
                batch_size=12,  # windows a step over all devices, B
                eval_batch_size=64,
            ),
            model=model_keys.of_model(MODELS, changes, "gpt", without=("head",)),
            num_steps=2_000,
            log_every=20,
            eval_every=250,
            save_every=250,
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
            sample=dict(
                prompt="\n", length=500, temperature=0.8, top_k=None, top_p=None, min_p=None, repetition_penalty=None
            ),
        ),
        **changes,
    )
