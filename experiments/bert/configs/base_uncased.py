"""BERT-base, uncased, ready to launch: the paper's pre-training, 131,072 tokens a step, on text of your own.

Published are the numbers of what is then fine-tuned from it, not of this: on SQuAD v1.1 EM 80.8 and F1 88.5 (Devlin et al.
2019, 1810.04805, Table 2; their repository's README has 81.2 and 88.4). Their corpus, Wikipedia and BooksCorpus, is yours to
supply, a document a file or a row of a .jsonl:
    almanac train bert/base_uncased --config.data.path=FOLDER

Differences from the paper: every step has 512 tokens a pair, where theirs has 128 for nine tenths of the steps; Adam's moments
are corrected for their start. optim.name=lamb, with a batch of 32,768 and peak_lr=5e-3 or so, is You et al. 2020 (1904.00962).

Cost        9e19 FLOP; four days on 16 TPU chips as the authors ran it; 110 M parameters
Run         almanac show bert/base_uncased --config.data.path=FOLDER
"""

from experiments.bert.configs.base import base


def get_config():
    return base(
        data=dict(
            source="files", path="text", tokenizer="wordpiece", length=512, predictions=80, batch_size=256,
            eval_batch_size=64,
        ),
        model=dict(num_layers=12, num_heads=12, width=768, scan=True, remat=True),
        optim=dict(
            peak_lr=1e-4, schedule="linear", warmup="10000 steps", weight_decay=0.01, eps=1e-6, clip_norm=1.0
        ),
        rules="fsdp",
        dtype="bfloat16",
        num_steps=1_000_000,
        log_every=100,
        eval_every=5_000,
        save_every=1_000,
    )  # fmt: skip
