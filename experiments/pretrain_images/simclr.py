"""SimCLR (Chen et al. 2020, 2002.05709): two views of a picture are to find each other among those of the batch."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.pretrain_images import views
from research.core.metrics import MetricSums, Terms
from research.losses import contrastive
from research.models.vision import resnet
from research.models.vision.resnet import Norm, ResNet
from research.util.errors import UserError

SHARDING = {"fsdp": resnet.SHARDING["fsdp"]}
WHOLE_BATCH = "batch statistics and negatives are of the whole batch"
SAMPLE = "views.png"  # a row of pictures, and one of each view


class SimCLR(nn.Module):
    """Pictures f[B, Y, X, C] -> projections f[B, P]; by `embed` the features before the head, f[B, D], which are kept.

    The parameters of the encoder lie where `ResNet` has them, so that they start one. The head is a hidden layer of D units
    with batch normalisation, as in the authors' code, and a linear one.
    """

    depth: int = 50  # this and the next four are ResNet's
    form: str = "imagenet"
    shortcut: str = "projection"
    zero_init: bool = False
    width: int = 0
    projection: int = 128  # P
    temperature: float = 0.1  # of the cosines

    def __post_init__(self):
        if not self.temperature > 0:
            raise UserError(f"model.temperature = {self.temperature}: above 0")
        super().__post_init__()

    def setup(self):
        self.encoder = ResNet(0, self.depth, self.form, self.shortcut, self.zero_init, self.width)
        nn.share_scope(self, self.encoder)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = self.embed(x, train)
        x = nn.Dense(x.shape[-1], use_bias=False, name="projection_hidden")(x)
        x = nn.relu(Norm(use_running_average=not train, name="projection_norm")(x))
        return nn.Dense(self.projection, use_bias=False, name="projection_out")(x)

    def embed(self, x: jax.Array, train: bool = False) -> jax.Array:
        return self.encoder(x, train)[-1].mean((1, 2))


def example(model: SimCLR, shape: tuple[int, int, int]) -> tuple:
    return (jnp.zeros((1, *shape)),)


def outputs(model: SimCLR, variables: Any, batch: Any, seed: int, augment: views.Augment, train: bool) -> tuple:
    """-> {"first", "second": f[B, P]}, the projections of two views; batch statistics."""
    both = views.augmented(batch, seed, augment, views=2)
    mutable = [name for name in variables if train and name != "params"]
    projected, state = model.apply(variables, both.reshape(-1, *both.shape[2:]), train=train, mutable=mutable)
    projected = projected.reshape(*both.shape[:2], -1)
    return {"first": projected[:, 0], "second": projected[:, 1]}, state


def terms(model: SimCLR, outputs: Any, mask: jax.Array | None = None) -> tuple[Terms, MetricSums]:
    return contrastive.nt_xent(outputs["first"], outputs["second"], model.temperature, mask)


def rows(model: SimCLR, variables: Any, batch: Any, seed: int, augment: views.Augment) -> list[jax.Array]:
    """Rows of pictures for people: the two views, as the network gets them."""
    return list(jnp.moveaxis(views.augmented(batch, seed, augment, views=2), 1, 0))
