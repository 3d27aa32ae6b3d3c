"""The autoencoder of Burda et al., one stochastic layer and one sample: MNIST binarised anew each epoch, 3,280 epochs.

Reproduces  Burda et al. 2016 (1509.00519), Table 1, MNIST, one layer, VAE, k = 1: NLL 86.76 nats, by 5,000 samples
Cost        a night on a CPU, 15 minutes a seed on one H200 (estimate); 0.43 M parameters
Run         almanac reproduce vae/mnist_vae

The recipe is the authors' code: 59,600 pictures, batches of 20, Adam (of the batch's sum, b1 0.99, eps 1e-4, second moments from
1), eight stages of 3^i epochs whose rates fall from 1e-3 to 1e-4. The test pictures are binarised once.
"""

from experiments.vae.configs.base import base


def recipe(value: float, low: float, high: float, row: str, cost: str, **loss):
    return base(
        data=dict(source="mnist", batch_size=20, eval_batch_size=200, valid_fraction=400 / 60_000),
        loss=loss,
        likelihood=dict(samples=5_000, part="test"),
        optim=dict(name="iwae_adam", peak_lr=1e-3, end_lr=1e-4, schedule="tripling"),
        num_steps="3280 epochs",
        steps_per_launch=500,
        log_every=10_000,
        eval_every="40 epochs",
        save_every="40 epochs",
        best=dict(metric=None),
        reproduces=dict(
            paper="Burda et al. 2016", table=f"Table 1, MNIST, one layer, {row}", metric="likelihood/nll", select="last",
            value=value, low=low, high=high, seeds=3, cost=f"{cost} a seed, one H200 (estimate)",
        ),
    )  # fmt: skip


def get_config():
    return recipe(86.76, 86.46, 87.26, "VAE, k = 1", "15 min", name="vae", samples=1)
