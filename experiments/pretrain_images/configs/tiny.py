"""The contract's pre-training, by SimCLR: seconds on a CPU.

Run         almanac train pretrain_images/tiny
"""

from experiments.pretrain_images.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, eval_batch_size=64),
        model=dict(name="simclr", depth=8, form="cifar", width=8, projection=16),
        augment=dict(jitter=0.4),
        probe=dict(examples=200),
        optim=dict(peak_lr=1e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
