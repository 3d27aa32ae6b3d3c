"""Vector quantisation (van den Oord et al. 2017, 1711.00937): vectors become the nearest of K codes.

N vectors of width D. Everything is in f32 whatever the network's dtype.
"""

import jax
import jax.numpy as jnp

LEAST = 1e-20  # below which a code's average count is taken as this, so that 0 is never divided by 0


def nearest(z: jax.Array, embedding: jax.Array) -> jax.Array:
    """The code of least Euclidean distance, i32[...], of vectors f[..., D] among f[K, D] (equation 1)."""
    # |z - e|^2 without |z|^2, which is the same for all codes. Accelerators would multiply in bf16: near codes need f32.
    products = jnp.matmul(z.astype(jnp.float32), embedding.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.argmin(jnp.square(embedding).sum(-1) - 2 * products, axis=-1).astype(jnp.int32)


def straight_through(z: jax.Array, quantised: jax.Array) -> jax.Array:
    """The value of `quantised`, and the gradient to z as if it were z (section 3.2)."""
    return z + jax.lax.stop_gradient(quantised.astype(z.dtype) - z)


def moved(state: dict, z: jax.Array, codes: jax.Array, decay: float) -> dict:
    """The codebook after a batch, by exponential moving averages (appendix A.1, equations 6 to 8).

    state  {"embedding": f32[K, D], "count": f32[K]}, e and N; m = N e needs no place of its own
    z      f[N, D], outputs of the encoder, and codes i32[N], the nearest of each: of the whole batch

    N' = decay N + (1 - decay) n and m' = decay m + (1 - decay) sum(z), so e' = m' / N' = e + (1 - decay) (sum(z) - n e) / N'.
    """
    embedding, z = state["embedding"], jax.lax.stop_gradient(z.astype(jnp.float32))
    chosen = jax.nn.one_hot(codes, len(embedding), dtype=jnp.float32)
    number, total = chosen.sum(0), jnp.matmul(chosen.T, z, precision=jax.lax.Precision.HIGHEST)
    count = decay * state["count"] + (1 - decay) * number
    change = (1 - decay) * (total - number[:, None] * embedding) / jnp.maximum(count, LEAST)[:, None]
    return {"embedding": embedding + change, "count": count}


def restarted(state: dict, z: jax.Array, least: float, key: jax.Array) -> dict:
    """Codes with an average count below `least` are replaced by random vectors of z f[N, D], with count 1.

    The random restarts of Dhariwal et al. 2020 (Jukebox, 2005.00341, section 3.1). `least` 0 replaces none.
    """
    rows = jax.random.randint(key, (len(state["count"]),), 0, len(z))
    dead = state["count"] < least
    embedding = jnp.where(dead[:, None], jax.lax.stop_gradient(z.astype(jnp.float32))[rows], state["embedding"])
    return {"embedding": embedding, "count": jnp.where(dead, 1.0, state["count"])}


def perplexity(shares: jax.Array) -> jax.Array:
    """exp of the entropy of the codes' shares f[K], which sum to 1: K if all are used alike, 1 if one alone is used.

    >>> float(perplexity(jnp.array([0.5, 0.5, 0.0])))
    2.0
    """
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
