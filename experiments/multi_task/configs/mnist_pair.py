"""Two of MNIST's digits on one picture, overlapping: read the left one, and the right one. After Sener & Koltun 2018.

Internal    their pictures are not ours: pairs are drawn anew each epoch by the run's seed; no published number is claimed
Cost        half a minute on 2 CPU cores (estimate); 0.03 M parameters
Run         almanac train multi_task/mnist_pair
"""

from experiments.multi_task.configs.base import base


def recipe(**data):
    return base(
        data=dict(source="mnist", batch_size=64, eval_batch_size=1_000, **data),
        model=dict(channels=(16, 32), hidden=50),
        optim=dict(name="adam", peak_lr=2e-3, warmup="50 steps"),
        num_steps=1_000,
        log_every=100,
        eval_every=1_000,
        save_every=1_000,
        best=dict(metric=None),
    )


def get_config():
    return recipe(scene="pair", canvas=18, sides=(14, 14))
