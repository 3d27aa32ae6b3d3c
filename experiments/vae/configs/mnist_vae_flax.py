"""google/flax's VAE example, in its first form: grey MNIST, one hidden layer of 400, 20 latents, 10 epochs.

Reproduces  google/flax examples/vae, README of its first version: loss on the test set 107.05 ± 0.25 (5 trials)
Cost        1 minute a seed on 2 CPU cores; 0.65 M parameters
Run         almanac reproduce vae/mnist_vae_flax

Grey values stand for probabilities, so the loss bounds no likelihood. The source draws a batch's noise once, while it is traced,
and uses it in every step; here it is drawn anew. Its networks begin with other kernels, and its last bias at 0.
"""

from experiments.vae.configs.base import base


def get_config():
    return base(
        data=dict(source="mnist", binarise="none", batch_size=128, eval_batch_size=500, valid_fraction=0.0),
        model=dict(latent=20, hidden=(400,), activation="relu"),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant"),
        num_steps="10 epochs",
        log_every=100,
        eval_every="1 epoch",
        save_every="1 epoch",
        best=dict(metric=None),
        reproduces=dict(
            paper="google/flax examples/vae", table="README, first version", metric="test/loss", select="last",
            value=107.05, low=105.0, high=109.0, seeds=5, cost="1 min a seed, 2 CPU cores",
        ),
    )  # fmt: skip
