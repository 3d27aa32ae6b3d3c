"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config

GPT = dict(
    name=None,  # None is gpt; gru and lstm have keys of their own, below
    num_layers=4,
    num_heads=4,
    width=128,  # D
    kv_heads=None,  # key and value heads; None is num_heads
    positions="learned",  # learned, rotary
    rotary_base=None,  # rotary: default 10,000; Llama 3's is 500,000
    norm="layernorm",  # layernorm, rmsnorm
    norm_eps=None,  # default 1e-5
    mlp="gelu",  # gelu, gelu_exact, swiglu
    mlp_width=None,  # None is 4 D, or the nearest of equal size for swiglu
    experts=None,  # feed-forward layers a block, of mlp_width each; None is one, and no router
    experts_per_token=None,  # those that a token goes through; None is 2
    balance=None,  # weight of the router's balance loss; None is 0.01
    tied=True,  # logits from the token embedding
    bias=False,
    dropout=0.0,
    scan=False,  # layers in a scan: compiles once, for deep models
    remat=False,  # recompute activations: less memory, more time
)
GRU = dict(
    name="gru",
    num_layers=2,
    width=128,  # H
    embedding_width=None,  # None is width
    tied=True,  # logits from the token embedding
    embedding_dropout=0.0,  # of word types; all four are one mask a sequence
    input_dropout=0.0,  # of every layer's inputs
    recurrent_dropout=0.0,  # of every layer's state
    output_dropout=0.0,  # of what the softmax reads
    init_range=None,  # r: every parameter starts in U(-r, r)
)
RECURRENT = {  # model.name -> its keys
    "gru": GRU,
    "lstm": GRU | dict(name="lstm", forget_bias=0.0),  # added to the forget gates' biases at the start
}


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="pydoc",  # pydoc, tiny_shakespeare, wikitext2, files
                path=None,  # files: a UTF-8 file, or a folder of .txt, .md, .jsonl
                valid_fraction=None,  # files: default 0.1
                text_key=None,  # files: the key of a .jsonl's text, default "text"
                clean=None,  # files: True makes characters and white space plain
                deduplicate=None,  # files: exact, near; leaves documents out that say what another says
                tokenizer="char",  # char, byte, word, gpt2, wordpiece, bpe, unigram, or a tokenizer.json's path
                vocab_size=None,  # bpe, unigram: tokens to learn; word: the commonest, None is all; .json: rows of the table
                min_count=None,  # word: seen so often in the training text, default 1
                lowercase=None,  # word: default False
                length=64,  # tokens a window, T
                packing=None,  # gpt: True fills windows with whole documents, none looking at another; else running text
                carry=None,  # True: a row goes on where it was in the batch before, with its state (lstm, gru)
                batch_size=12,  # windows a step over all devices, B
                eval_batch_size=64,
            ),
            model=RECURRENT.get(changes.get("model", {}).get("name"), GPT),
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
