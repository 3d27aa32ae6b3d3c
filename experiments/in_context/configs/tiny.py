"""The contract's in-context learner: seconds on a CPU.

Run         almanac train in_context/tiny
"""

from experiments.in_context.configs.base import base


def get_config():
    return base(
        data=dict(
            dims=3, dims_start=2, dims_every="2 steps", points=8, points_start=4, points_by=1, points_every="3 steps",
            noise=0.1, batch_size=8, eval_size=40, eval_batch_size=16,
        ),
        model=dict(num_layers=2, num_heads=2, width=32, dropout=0.1),
        optim=dict(name="adam", peak_lr=3e-3, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )  # fmt: skip
