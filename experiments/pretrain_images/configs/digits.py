"""SimCLR on scikit-learn's digits: crops that are scaled back, shifts and contrast, for a small ResNet.

Cost        2 minutes on 2 CPU cores; 0.09 M parameters
Run         almanac train pretrain_images/digits
"""

from experiments.pretrain_images.configs.base import base


def get_config():
    return base(
        model=dict(name="simclr", depth=8, form="cifar", projection=64),
        augment=dict(resized_crop=0.5, crop=1, jitter=0.4),
        optim=dict(peak_lr=3e-3, warmup="20 steps", weight_decay=1e-4),
        num_steps=600,
        log_every=50,
        eval_every=200,
        save_every=200,
    )
