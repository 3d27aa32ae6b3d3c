"""The position-wise feed-forward layer of a transformer."""

from functools import partial

import flax.linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.nn.linear import flat_dot

# "gelu" is the tanh form, GPT-2's (Hendrycks & Gimpel 2016, 1606.08415); "gelu_exact" is BERT's;
# "relu" Vaswani's; "silu" (swish) Marian's.
ACTIVATIONS = {
    "relu": nn.relu,
    "silu": nn.silu,
    "gelu": partial(nn.gelu, approximate=True),
    "gelu_exact": partial(nn.gelu, approximate=False),
    "swiglu": nn.silu,
}


class FeedForward(nn.Module):
    """Vectors -> vectors of the same width, through `width` hidden units.

    `activation` is a key of ACTIVATIONS; "swiglu" multiplies the hidden units by SiLU gates (Shazeer 2020, 2002.05202, eq. 6).

    >>> import jax
    >>> params = FeedForward(width=32).init(jax.random.key(0), jax.numpy.ones((1, 3, 8)))["params"]
    >>> jax.tree.map(lambda x: x.shape, params)
    {'down': {'kernel': (32, 8)}, 'up': {'kernel': (8, 32)}}
    """

    width: int
    activation: str = "gelu"
    bias: bool = False
    dropout: float = 0.0  # of the hidden units
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    out_init: nn.initializers.Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"], *, train: bool = False) -> Float[Array, "*batch D"]:
        dense = partial(nn.Dense, use_bias=self.bias, dot_general=flat_dot)
        act = ACTIVATIONS[self.activation]
        hidden = dense(self.width, kernel_init=self.kernel_init, name="up")(x)
        if self.activation == "swiglu":
            hidden *= act(dense(self.width, kernel_init=self.kernel_init, name="gate")(x))
        else:
            hidden = act(hidden)
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return dense(x.shape[-1], kernel_init=self.out_init, name="down")(hidden)
