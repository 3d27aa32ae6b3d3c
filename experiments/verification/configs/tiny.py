"""The contract's verifier: seconds on a CPU.

Run         almanac train verification/tiny
"""

from experiments.verification.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, eval_batch_size=64),
        model=dict(embedding=16, channels=8, num_blocks=2),
        loss=dict(name="arcface", margin=0.2),
        optim=dict(peak_lr=1e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
