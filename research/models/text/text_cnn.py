"""Kim's convolutional network for sentences (2014, EMNLP, 1408.5882), with random embeddings: CNN-rand.

Windows of 3, 4 and 5 words, 100 maps each, ReLU, the maximum over time, dropout, a linear layer. Initial values are those of
the author's code: embeddings from U(-.25, .25), windows from U(-.01, .01), all others 0. Its constraint on the norm of the
last layer is part of the optimiser: research/algorithms/max_norm.py.

    tokens/embedding [V, D]      window_3/{kernel [3, D, maps], bias [maps]}     head/{kernel [maps * windows, N], bias [N]}
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float32, Int

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import Window
from research.nn.initializers import uniform
from research.util.errors import UserError

SHARDING = {"fsdp": ((r"(kernel|embedding)$", "fsdp"),)}


class TextCNN(nn.Module):
    """Texts and their lengths -> logits. Raises UserError for invalid attributes."""

    vocab_size: int
    num_classes: int
    width: int = 300  # D, of embeddings
    windows: Sequence[int] = (3, 4, 5)  # words
    maps: int = 100  # of each window
    dropout: float = 0.5  # of the pooled maps

    def __post_init__(self):
        if not self.windows or min(self.windows) < 1 or min(self.width, self.maps) < 1:
            raise UserError(
                f"model.windows = {self.windows}, model.width = {self.width}, model.maps = {self.maps}: all at least 1"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout = {self.dropout}: from 0 to below 1")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], length: Int[Array, " B"], *, train: bool = False
    ) -> Float32[Array, "B N"]:
        """Tokens beyond a row's length are ignored. Dropout needs `train=True` and `rngs={"dropout": key}`.

        The author pads every sentence with zeros, to the longest and by 4 more words at each end, so that the maximum
        includes windows of zeros. So does this one, whatever length T the rows are padded to.
        """
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=uniform(0.25), name="tokens")
        inside = jnp.arange(tokens.shape[1]) < length[:, None]
        x = shard_activations(jnp.where(inside[..., None], embed(tokens), 0))
        pooled = []
        for size in self.windows:
            pooled.append(nn.relu(Window(size, self.maps, uniform(0.01), name=f"window_{size}")(x).max(1)))
        x = nn.Dropout(self.dropout, deterministic=not train)(jnp.concatenate(pooled, -1))
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x).astype(jnp.float32)
