"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import IMAGES
from research.nn import model_keys
from research.nn.from_config import choose

MODELS = {  # model.name -> the generator and the discriminator, whose fields are their keys; mlp is for the grid
    "mlp": ("research.models.generative.gan.MLPGenerator", "research.models.generative.gan.MaxoutDiscriminator"),
    "dcgan": ("research.models.generative.gan.DCGANGenerator", "research.models.generative.gan.DCGANDiscriminator"),
}


def base(**changes: Any) -> ConfigDict:
    name = changes.get("model", {}).get("name", "dcgan")
    generator, discriminator = map(model_keys.fields, choose(MODELS, name))
    if "norm" in discriminator:
        discriminator["norm"] = (
            None  # None is batch, and layer where wgan_gp's penalty is of one example at a time; or spectral
        )
    return config.merge(
        config.family_defaults(
            data=dict(
                **IMAGES,  # source: grid, too
                num_examples=None,  # grid: default 100,000
                batch_size=64,  # rows the discriminator sees in an update, B
            ),
            model=dict(
                name=name,
                latent=64,  # Z
                pack=1,  # samples a row: PacGAN
                conditional=False,  # both networks read the class; of pictures
                generator=generator,
                discriminator=discriminator,
            ),
            loss=dict(
                name="gan",  # gan (non-saturating), wgan_gp, hinge
                critic_steps=1,  # discriminator updates a step
                simultaneous=False,  # both updates from the same parameters
                penalty=10.0,  # wgan_gp: weight of the gradient penalty
                smoothing=0.0,  # gan: of the real label, one-sided
            ),
            discriminator_lr=None,  # None is optim.peak_lr
            num_steps=5_000,
            eval_every=500,
            save_every=500,
        ),
        **changes,
    )
