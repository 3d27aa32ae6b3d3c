"""The contract's multi-task network: seconds on a CPU.

Run         almanac train multi_task/tiny
"""

from experiments.multi_task.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, scene="boxed", canvas=12, sides=(6, 10)),
        weights=dict(name="pcgrad"),
        model=dict(channels=(8, 8), hidden=32),
        optim=dict(peak_lr=1e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
