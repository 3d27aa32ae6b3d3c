"""A masked autoencoder of Fashion-MNIST: 49 patches of 4 x 4 pixels, of which twelve are seen. Internal, never run here.

Short, as CPUs go: 400 steps see each picture less than twice, where the paper trains for 800 epochs and more.

Cost        8 minutes a seed on 2 CPU cores (estimate); 0.9 M parameters
Run         almanac train pretrain_images/fashion_mnist_mae
"""

from experiments.pretrain_images.configs.base import base


def get_config():
    return base(
        data=dict(source="fashion_mnist", batch_size=256, eval_batch_size=500),
        model=dict(
            name="mae", patch=4, width=128, num_layers=4, num_heads=4, pool="mean",
            decoder_width=64, decoder_layers=1, decoder_heads=4, normalise=False,
        ),
        augment=dict(resized_crop=0.5, flip=0.5),
        probe=dict(examples=2_000),
        optim=dict(peak_lr=2e-3, warmup="40 steps", weight_decay=0.05, b2=0.95),
        num_steps=400,
        log_every=50,
        eval_every=400,
        save_every=400,
    )  # fmt: skip
