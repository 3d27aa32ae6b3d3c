"""A mixture of experts in place of a feed-forward layer: each token passes through the k of E that the router chooses.

Sources: Shazeer et al. 2017 (1701.06538), eq. 1 to 5, without the noise; the balance loss of Fedus et al. 2021 (Switch
Transformer, 2101.03961), eq. 4 to 6, for k choices.

No token is dropped, whatever the load: with a capacity, a token's output would depend on the other tokens of its batch, and
decoding with a cache would differ from one pass. Shapes are static nevertheless: the N k copies of tokens are laid out in
blocks of b rows that belong to one expert each, at most N k / b + E of them, and every block is multiplied by its expert's
matrix. The router is f32.
"""

import math
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.core.mesh import path_name
from research.nn.feed_forward import ACTIVATIONS
from research.nn.linear import flat_dot

Initializer: TypeAlias = jax.nn.initializers.Initializer


class Plan(NamedTuple):
    """The layout of the copies of tokens in blocks."""

    slot: jax.Array  # i32[N k], each copy's row among the blocks' rows
    owner: jax.Array  # i32[blocks], the expert of each block
    rows: Any  # b, the rows of a block


def plan(chosen: Int[Array, "N k"], num_experts: int) -> Plan:
    """Experts chosen for each token -> blocks of copies, sorted by expert and then by token.

    >>> layout = plan(jnp.array([[1], [0], [1]]), num_experts=2)  # in blocks of one row
    >>> layout.slot.tolist(), layout.owner.tolist()
    ([1, 0, 2], [0, 1, 1])
    """
    copies = chosen.reshape(-1)
    n = copies.shape[0]
    rows = _rows(n, num_experts)
    hot = copies[:, None] == jnp.arange(num_experts)
    within = jnp.sum(jnp.cumsum(hot, axis=0) * hot, axis=1) - 1  # rank among the copies of its expert
    blocks = -(-hot.sum(axis=0) // rows)
    ends = jnp.cumsum(blocks)
    total = (n + num_experts * (rows - 1)) // rows
    owner = jnp.searchsorted(ends, jnp.arange(total), side="right")  # E past the last used block
    return Plan((ends - blocks)[copies] * rows + within, jnp.minimum(owner, num_experts - 1), rows)


def _rows(n: Any, num_experts: int) -> Any:
    """Rows of a block: few enough that padding adds at most a quarter of the work."""
    if num_experts == 1:
        return n
    return max(1, -(-n // (4 * num_experts))) if isinstance(n, int) else 64  # an exported function's symbolic size


class Grouped(nn.Module):
    """Multiplies blocks by their owners' matrices [E, I, O]."""

    num_experts: int
    features: int
    use_bias: bool
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "blocks b I"], owner: Int[Array, " blocks"]) -> Float[Array, "blocks b O"]:
        shape = (self.num_experts, x.shape[-1], self.features)
        kernel = self.param("kernel", _each(self.kernel_init), shape).astype(x.dtype)
        if self.num_experts == 1:  # bitwise equal to the dense layer's product
            y = flat_dot(x, kernel[0], (((2,), (0,)), ((), ())))
        else:
            y = jnp.einsum("nbi,nio->nbo", x, jnp.take(kernel, owner, axis=0, indices_are_sorted=True))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.num_experts, self.features))
            y += bias.astype(x.dtype)[owner][:, None]
        return y


class MixtureOfExperts(nn.Module):
    """Over each token's top-k experts, the sum of softmax(router logits) times their outputs.

    The experts are `FeedForward`s of `width` hidden units, their parameters with a leading E. Each layer sows into
    "routing" "router_balance" f32[] (`balance`) and "router_load" f32[E], each expert's share of the choices.
    """

    num_experts: int
    per_token: int  # k
    width: int
    activation: str = "gelu"
    bias: bool = False
    kernel_init: Initializer = nn.initializers.normal(0.02)
    out_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        tokens = x.reshape(-1, x.shape[-1])
        dot = partial(flat_dot, preferred_element_type=jnp.float32)
        router = nn.Dense(
            self.num_experts, use_bias=False, kernel_init=self.kernel_init, dot_general=dot, name="router"
        )
        logits = router(tokens)
        best, chosen = jax.lax.top_k(logits, self.per_token)
        load = jnp.mean(nn.one_hot(chosen, self.num_experts), axis=(0, 1))
        if not self.is_initializing():
            self.sow("routing", "router_load", load)
            self.sow("routing", "router_balance", balance(load, nn.softmax(logits)))

        layout = plan(chosen, self.num_experts)
        copies = jnp.repeat(tokens, self.per_token, axis=0)
        size = layout.owner.shape[0] * layout.rows
        blocks = jnp.zeros((size, copies.shape[-1]), x.dtype).at[layout.slot].set(copies, unique_indices=True)
        blocks = self._experts(blocks.reshape(-1, layout.rows, copies.shape[-1]), layout.owner)
        y = blocks.reshape(size, -1)[layout.slot].reshape(-1, self.per_token, x.shape[-1])
        return jnp.sum(y * nn.softmax(best)[..., None].astype(x.dtype), axis=1).reshape(x.shape)

    def _experts(self, x: Float[Array, "blocks b D"], owner: Int[Array, " blocks"]) -> Float[Array, "blocks b D"]:
        grouped = partial(Grouped, self.num_experts, use_bias=self.bias)
        act = ACTIVATIONS[self.activation]
        hidden = grouped(self.width, kernel_init=self.kernel_init, name="up")(x, owner)
        if self.activation == "swiglu":
            hidden *= act(grouped(self.width, kernel_init=self.kernel_init, name="gate")(x, owner))
        else:
            hidden = act(hidden)
        return grouped(x.shape[-1], kernel_init=self.out_init, name="down")(hidden, owner)


def balance(load: Float[Array, " E"], probabilities: Float[Array, "N E"]) -> Float[Array, ""]:
    """E times the inner product of the load and the mean of the router's probabilities: from 1, even, to E.

    The gradient flows through the probabilities: an expert with more than its share becomes less likely.

    >>> float(balance(jnp.array([0.5, 0.5]), jnp.array([[0.75, 0.25], [0.25, 0.75]])))
    1.0
    """
    return load.shape[-1] * jnp.sum(load * jnp.mean(probabilities, axis=0))


def routing(sown: Any) -> tuple[Float32[Array, ""], Float32[Array, ""]] | None:
    """Values sown in one forward pass -> means over layers: the balance loss, and the load's entropy over log E.

    None without a mixture of experts. An entropy of 1 is an even load; at 0 one expert has all.
    """
    leaves = jax.tree_util.tree_leaves_with_path(sown)
    values = {name: [x for path, x in leaves if f"router_{name}/" in path_name(path)] for name in ("balance", "load")}
    if not values["load"]:
        return None
    load = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in values["load"]])
    entropy = -jnp.sum(jax.scipy.special.xlogy(load, load), axis=-1) / math.log(load.shape[-1])
    return jnp.mean(jnp.stack([x.mean() for x in values["balance"]])), jnp.mean(entropy)


def _each(init: Initializer) -> Initializer:
    """Initialises each expert's matrix separately, with the fan-in of one expert."""

    def draw(key, shape, dtype=jnp.float32):
        return jax.vmap(lambda key: init(key, shape[1:], dtype))(jax.random.split(key, shape[0]))

    return draw
