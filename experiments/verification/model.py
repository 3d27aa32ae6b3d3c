"""The network of the field's few-shot work: blocks of convolution, batch normalisation, ReLU and pooling."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.nn.convolution import conv

SHARDING = {"fsdp": ((r"(kernel|classes)$", "fsdp"),)}


class Embedder(nn.Module):
    """Pictures f[B, Y, X, C] -> embeddings f[B, D] of norm 1, and their cosines with the classes' vectors, f[B, N].

    The blocks are Conv-4 of Vinyals et al. 2016 (1606.04080): 3 x 3, 64 channels, pooled by 2 while a side is at least 2. A dense
    layer makes the embedding. Without `classifies` there are no classes' vectors and no cosines.
    """

    num_classes: int
    classifies: bool
    embedding: int = 64  # D
    channels: int = 64
    num_blocks: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array | None]:
        for i in range(self.num_blocks):
            x = nn.Conv(self.channels, (3, 3), use_bias=False, conv_general_dilated=conv, name=f"conv{i}")(x)
            x = nn.relu(nn.BatchNorm(not train, momentum=0.9, name=f"norm{i}")(x))
            if min(x.shape[1:3]) >= 2:
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = unit(nn.Dense(self.embedding, name="embedding")(x.reshape(x.shape[0], -1)))
        if not self.classifies:
            return x, None
        classes = self.param("classes", nn.initializers.normal(1.0), (self.num_classes, self.embedding))
        return x, x @ unit(classes.astype(x.dtype)).T


def unit(x: jax.Array) -> jax.Array:
    """Divided by its Euclidean norm over the last axis, in f32; 0 stays 0."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.square(x32).sum(-1, keepdims=True) + 1e-12)).astype(x.dtype)
