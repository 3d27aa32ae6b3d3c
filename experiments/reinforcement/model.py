"""Networks of agents, over observations of any shape, which they flatten."""

import flax.linen as nn
import jax
import jax.numpy as jnp

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}
ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}


class MLP(nn.Module):
    """Observation f[B, ...] -> f32[B, outputs]. Orthogonal kernels, the last one's scaled by `scale`; biases 0."""

    hidden: tuple
    activation: str
    outputs: int
    scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden):
            layer = nn.Dense(width, kernel_init=nn.initializers.orthogonal(2**0.5), name=f"hidden_{i}")
            x = ACTIVATIONS[self.activation](layer(x))
        last = nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.scale), name="head")
        return last(x).astype(jnp.float32)


class Network(nn.Module):
    """The keys of both algorithms' networks."""

    hidden: tuple = (64, 64)
    activation: str = "tanh"  # tanh, relu


class ActorCritic(Network):
    """Observation f[B, ...] -> logits f32[B, N], value f32[B], by two separate networks (1707.06347, section 6.1)."""

    num_actions: int = 0

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = MLP(self.hidden, self.activation, self.num_actions, 0.01, name="actor")(observation)
        return logits, MLP(self.hidden, self.activation, 1, 1.0, name="critic")(observation)[:, 0]


class QNetwork(Network):
    """Observation f[B, ...] -> Q f32[B, N]."""

    num_actions: int = 0

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        return MLP(self.hidden, self.activation, self.num_actions, 1.0, name="q")(observation)
