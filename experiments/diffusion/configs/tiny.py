"""The contract's diffusion: seconds on a CPU.

Run         almanac train diffusion/tiny
"""

from experiments.diffusion.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, eval_batch_size=64),
        model=dict(channels=8, multipliers=(1,), blocks=0, attention=(), dropout=0.0),
        diffusion=dict(times=20, schedule="cosine", predicts="velocity"),
        sample=dict(steps=4, measured=False),
        optim=dict(name="adam", peak_lr=1e-2, schedule="constant"),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
