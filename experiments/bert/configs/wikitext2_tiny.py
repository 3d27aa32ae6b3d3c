"""BERT-Tiny (2 x 128; Turc et al. 2019, 1908.08962) on WikiText-2, BERT's WordPiece: 2 million words.

Turc's was trained on the 3.3 billion words of Wikipedia and BooksCorpus; there is no published number for this corpus.

Cost        51 minutes on one CPU core; 4.4 M parameters
Run         almanac train bert/wikitext2_tiny
"""

from experiments.bert.configs.base import base


def get_config():
    return base(
        data=dict(source="wikitext2", tokenizer="wordpiece", length=64, batch_size=32),
        optim=dict(
            peak_lr=2e-3, schedule="linear", warmup="500 steps", weight_decay=0.01, b2=0.98, eps=1e-6, clip_norm=1.0
        ),
        num_steps=8_000,
        eval_every=1_000,
        save_every=1_000,
        reproduces=(
            dict(paper="no published number", metric="valid/mlm_loss", seeds=1, cost="51 min, one CPU core"),
            dict(paper="no published number", metric="valid/nsp_accuracy", seeds=1, cost="the same run"),
        ),
    )
