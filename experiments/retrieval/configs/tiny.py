"""The contract's dual encoder: seconds on a CPU.

Run         almanac train retrieval/tiny
"""

from experiments.retrieval.configs.base import base


def get_config():
    return base(
        data=dict(passages=40, vocab_size=400, batch_size=8, eval_batch_size=16),
        model=dict(width=32, dropout=0.1, shared=False),
        optim=dict(peak_lr=1e-2, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
