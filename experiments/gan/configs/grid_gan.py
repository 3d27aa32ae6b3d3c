"""GAN on the grid of 25 modes: how many does it find?

Reproduces  Lin 2018, PacGAN (1712.04086), Table 1, GAN: 17.3 +- 0.8 of 25 modes, reverse KL 0.70
Cost        90 minutes a seed on one CPU core; 0.89 M parameters
Run         almanac reproduce gan/grid_gan

The protocol is that of the authors' code (fjxmlzn/PacGAN, synthetic_data_experiments): both networks step at once from the same
parameters, 400,000 steps of 100 packs. Here real packs are drawn without replacement, and batch norm's averages are the
training's own, not refreshed by 50 batches before each evaluation.
"""

from experiments.gan.configs.base import base


def get_config(pack=1, value=17.3, low=15.3, high=19.3, cost="90 min a seed, one CPU core"):
    return base(
        data=dict(source="grid", batch_size=100),
        model=dict(name="mlp", latent=2, pack=pack),
        loss=dict(simultaneous=True),
        optim=dict(name="adam", peak_lr=1e-4, schedule="constant", b1=0.8),
        num_steps=400_000,
        log_every=1_000,
        eval_every=10_000,
        save_every=10_000,
        reproduces=dict(
            paper="Lin 2018, PacGAN", table="Table 1, 2D-grid", metric="quality/modes", select="last",
            value=value, low=low, high=high, seeds=5, cost=cost,
        ),
    )  # fmt: skip
