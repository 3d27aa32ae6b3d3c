"""The contract's autoencoder of clips: seconds on a CPU.

Run         almanac train video_anomaly/tiny
"""

from experiments.video_anomaly.configs.base import base


def get_config():
    return base(
        data=dict(size=8, length=8, count=64, frames=4, batch_size=16, eval_batch_size=64),
        model=dict(widths=(8,)),
        optim=dict(name="adam", peak_lr=1e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
