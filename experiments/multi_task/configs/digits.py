"""One of scikit-learn's digits somewhere on a picture, in a drawn size: which it is, and its box. No download.

Cost        15 seconds on 2 CPU cores; 0.04 M parameters
Run         almanac train multi_task/digits
"""

from experiments.multi_task.configs.base import base


def get_config():
    return base(
        data=dict(scene="boxed", canvas=16, sides=(8, 14)),
        weights=dict(name="uncertainty"),
        model=dict(channels=(16, 32), hidden=64),
        optim=dict(name="adam", peak_lr=3e-3, warmup="20 steps"),
        num_steps=800,
        log_every=100,
        eval_every=200,
        save_every=200,
    )
