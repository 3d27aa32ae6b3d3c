"""Triplets of scikit-learn's digits: trained on five digits, verified on two and tested on three others. A smoke test.

Cost        half a minute on 2 CPU cores; 0.02 M parameters
Run         almanac train verification/digits
"""

from experiments.verification.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=40, per_class=8),
        model=dict(channels=32, num_blocks=3),
        optim=dict(peak_lr=1e-3, warmup="20 steps"),
        shift=1,
        num_steps=600,
        log_every=50,
        eval_every=50,
        save_every=100,
    )
