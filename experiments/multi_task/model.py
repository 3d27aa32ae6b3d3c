"""One trunk, a linear head for each task."""

from collections.abc import Mapping

import jax
from flax import linen as nn

from research.models.vision import convnet

SHARDING = {"fsdp": convnet.SHARDING["fsdp"]}
OWN = "^head_"  # paths of what one task alone has


class MultiTask(nn.Module):
    """Pictures f[B, Y, X, C] -> {task: f[B, N]}, with `heads` {task: N}.

    `weighs` adds "log_variance" f32[tasks], 0 at first, which the loss alone reads.
    """

    trunk: nn.Module
    heads: Mapping[str, int]
    weighs: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        if self.weighs:
            self.param("log_variance", nn.initializers.zeros, (len(self.heads),))
        features = self.trunk(x, train)
        return {task: nn.Dense(size, name=f"head_{task}")(features) for task, size in self.heads.items()}
