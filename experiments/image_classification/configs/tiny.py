"""The contract's image classifier, with batch statistics and augmentation: seconds on a CPU.

Run         almanac train image_classification/tiny
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, eval_batch_size=64),
        model=dict(name="resnet", depth=8, form="cifar"),
        augment=dict(crop=1, erase=0.5),
        optim=dict(name="momentum", peak_lr=0.1, warmup=2, weight_decay=1e-4),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
