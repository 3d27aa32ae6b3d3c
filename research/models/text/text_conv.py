"""A stack of convolutions over a text, as Keras' examples have it: Conv1D and MaxPooling1D, Conv1D, GlobalMaxPooling1D, Dense.

Every convolution sees whole windows alone ("valid") and ends in ReLU; between two of them is the maximum of every `pool`
positions, and what is left over is dropped. Initial values are Keras': embeddings uniform in -0.05..0.05, Glorot's for the rest.

    tokens/embedding [V, D]    conv_0/{kernel [window, D, maps], bias [maps]}    conv_1/{kernel [window, maps, maps], ...}
    hidden/{kernel [maps, hidden], bias}    head/{kernel [hidden, N], bias}
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import Window
from research.nn.initializers import uniform
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}
_GLOROT = nn.initializers.glorot_uniform()


class TextConv(nn.Module):
    """Texts and their lengths -> logits. Raises UserError for invalid attributes."""

    vocab_size: int
    num_classes: int
    max_length: int  # rows are filled up to it with zero vectors, so that a row's logits do not depend on its batch
    width: int = 64  # D, of embeddings
    num_layers: int = 2  # convolutions
    window: int = 5  # words
    maps: int = 128  # of each convolution
    pool: int = 5  # positions
    hidden: int = 128  # units between the pooled maps and the logits
    dropout: float = 0.0  # of the hidden units

    def __post_init__(self):
        for name in ("width", "num_layers", "window", "maps", "pool", "hidden"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"model.{name} = {value}: at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout = {self.dropout}: from 0 to below 1")
        least = self.window
        for _ in range(self.num_layers - 1):
            least = least * self.pool + self.window - 1
        if self.max_length < least:
            raise UserError(
                f"data.length = {self.max_length}: model.name = 'conv' needs {least} for its last convolution"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], length: Int[Array, " B"], *, train: bool = False
    ) -> Float32[Array, "B N"]:
        """Tokens beyond a row's length are ignored. Dropout needs `train=True` and `rngs={"dropout": key}`."""
        tokens = jnp.pad(tokens, ((0, 0), (0, self.max_length - tokens.shape[1])))
        inside = jnp.arange(self.max_length) < length[:, None]
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=uniform(0.05), name="tokens")
        x = shard_activations(jnp.where(inside[..., None], embed(tokens), 0))
        for i in range(self.num_layers):
            if i:
                x = nn.max_pool(x, window_shape=(self.pool,), strides=(self.pool,))
            x = nn.relu(Window(self.window, self.maps, name=f"conv_{i}")(x)[:, self.window : x.shape[1] + 1])
        x = nn.relu(nn.Dense(self.hidden, kernel_init=_GLOROT, name="hidden")(x.max(1)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=_GLOROT, name="head")(x).astype(jnp.float32)
