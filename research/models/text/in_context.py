"""A transformer that reads pairs (x, y) as vectors and predicts each y from the pairs before (Garg et al. 2022, 2208.01066).

Section 2 and appendix A.1: each x, and each y followed by zeros, is projected to the width of a GPT-2, whose
output at x_i is projected to one number, the prediction of y_i.

    read_in/kernel [d, D]       position/embedding [2 n, D]       h_0/...: see research/models/text/gpt.py
    final_norm/scale [D]        read_out/kernel [D, 1]
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Float32

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.models.text.gpt import Block
from research.util.errors import UserError

SHARDING = {
    "fsdp": (
        (r"h_\d+/.*kernel$", ("data", None)),  # [in, out]
        (r"embedding$", (None, "data")),  # [2 n, D]
    )
}


class Regressor(nn.Module):
    """y_i predicted from x_1, y_1 ... x_i. Raises UserError for invalid attributes."""

    max_points: int  # maximum pairs, n
    num_layers: int = 3
    num_heads: int = 2
    width: int = 64  # D
    dropout: float = 0.0

    def __post_init__(self):
        for name in ("num_layers", "num_heads", "width"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name}={getattr(self, name)}: want at least 1")
        if self.width % self.num_heads:
            raise UserError(f"model.width={self.width} does not divide by model.num_heads={self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout={self.dropout} is not in [0, 1)")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B n d"], y: Float[Array, "B n"], *, train: bool = False
    ) -> Float32[Array, "B n"]:
        B, n, d = x.shape
        values = jnp.pad(y[..., None], ((0, 0), (0, 0), (0, d - 1)))
        T = 2 * n
        h = nn.Dense(self.width, name="read_in")(jnp.stack([x, values], 2).reshape(B, T, d))
        normal = nn.initializers.normal(0.02)
        at = jnp.arange(T)
        h = h + nn.Embed(2 * self.max_points, self.width, embedding_init=normal, name="position")(at)
        h = shard_activations(nn.Dropout(self.dropout, deterministic=not train)(h))
        for i in range(self.num_layers):
            block = Block(
                num_layers=self.num_layers,
                num_heads=self.num_heads,
                kv_heads=self.num_heads,
                norm="layernorm",
                norm_eps=1e-5,
                mlp="gelu",
                mlp_width=4 * self.width,
                experts=1,
                experts_per_token=1,
                bias=True,
                dropout=self.dropout,
                train=train,
                name=f"h_{i}",
            )
            h, _ = block(h, None, at[:, None] >= at, None, 0)
        h = nn.LayerNorm(epsilon=1e-5, name="final_norm")(h.reshape(B, n, 2, self.width)[:, :, 0])
        return nn.Dense(1, name="read_out")(h)[..., 0].astype(jnp.float32)
