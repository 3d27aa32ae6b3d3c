"""SimCLR on Fashion-MNIST with a ResNet-8: crops, flips, brightness and contrast. Internal, never run here.

Short, as CPUs go: 200 steps see each picture once at most, where the paper trains for 100 to 1,000 epochs.

Cost        8 minutes a seed on 2 CPU cores (estimate); 0.09 M parameters
Run         almanac train pretrain_images/fashion_mnist_simclr
"""

from experiments.pretrain_images.configs.base import base


def get_config():
    return base(
        data=dict(source="fashion_mnist", batch_size=256, eval_batch_size=500),
        model=dict(name="simclr", depth=8, form="cifar", projection=64, temperature=0.2),
        augment=dict(resized_crop=0.3, flip=0.5, jitter=0.4),
        probe=dict(examples=2_000),
        optim=dict(peak_lr=3e-3, warmup="20 steps", weight_decay=1e-4),
        num_steps=200,
        log_every=25,
        eval_every=200,
        save_every=200,
    )
