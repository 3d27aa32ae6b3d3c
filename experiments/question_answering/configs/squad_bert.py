"""BERT-base on SQuAD v1.1, ready to launch: it wants the published weights, which are yours to supply.

Devlin 2019 (1810.04805), Table 2: development F1 88.5, EM 80.8; the README of google-research/bert has a run of 88.4, 81.2:
    almanac train question_answering/squad_bert --init-from FOLDER --config.pretrained.fresh=^span/

Cost        half an hour on one H200 (estimated); 109 M parameters. Never trained here
Run         almanac show question_answering/squad_bert

FOLDER holds bert-base-uncased as safetensors. Rows are 384 pieces, long passages in windows 128 apart, as google-research/bert's
run_squad.py has them; its rates, its two epochs and its warm-up too.
"""

from experiments.question_answering.configs.base import base


def get_config():
    return base(
        data=dict(
            source="squad", tokenizer="wordpiece", length=384, question_length=64, stride=128, batch_size=32,
            eval_batch_size=64,
        ),
        model=dict(name="bert", width=768, num_layers=12, num_heads=12, max_length=512, dropout=0.1, scan=False),
        answer=dict(max_length=30),
        optim=dict(peak_lr=5e-5, schedule="linear", warmup="0.2 epochs", weight_decay=0.01, clip_norm=1.0),
        dtype="bfloat16",
        num_steps="2 epochs",
        log_every=50,
        eval_every="1 epoch",
        save_every=500,
    )  # fmt: skip
