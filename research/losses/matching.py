"""One-to-one matching of least cost, on the device: the assignment problem, solved exactly with fixed shapes."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from research.core.arrays import Array


def linear_assignment(cost: Float[Array, "n m"], real: Bool[Array, " n"] | None = None) -> Int[Array, " n"]:
    """The column of each row, -1 for none, so that as many rows as possible have a column of their own at the least total cost.

    Rows that are not `real` fill up: they get no column. With more rows than columns the costliest to have are left over.

    Successive shortest paths (Edmonds and Karp 1972) by Dijkstra's algorithm over reduced costs, as in Jonker and
    Volgenant 1987: each of the min(n, m) rounds finds the cheapest path from any free row to any free column, and costs at
    most min(n, m) steps over the columns. Exact up to the rounding of sums of costs; a function of its inputs alone, among equal
    matchings, too; for any number under vmap. A cost that is NaN or infinite counts as one greater than all others. Passes no
    gradient.

    >>> linear_assignment(jnp.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0]])).tolist()
    [1, 0]
    """
    n, m = cost.shape
    if not n * m:
        return jnp.full(n, -1)
    real = jnp.ones(n, bool) if real is None else real
    cost = _finite(jax.lax.stop_gradient(cost).astype(jnp.float32))
    cost = jnp.where(real[:, None], cost, jnp.inf)
    least = jnp.where(real.any(), cost.min(), 0)
    # Of all free rows the dual is the same, and that of all free columns is 0: the shortest path is then also the cheapest.
    start = (jnp.full(n, least), jnp.zeros(m), jnp.full(n, -1), jnp.full(m, -1))
    rounds = jnp.minimum(real.sum(), m)
    *_, column_of, _ = jax.lax.fori_loop(0, rounds, partial(_augment, cost, real), start)
    return column_of


def _finite(cost: jax.Array) -> jax.Array:
    """Without NaN and infinities, for which the sum of all finite magnitudes stands, and 1."""
    finite = jnp.isfinite(cost)
    return jnp.where(finite, cost, jnp.where(finite, jnp.abs(cost), 0).sum() + 1)


def _augment(cost: jax.Array, real: jax.Array, i: jax.Array, state: tuple) -> tuple:
    """One more row with a column. `state`: the duals of rows and of columns, the column of each row, the row of each column."""
    del i
    u, v, column_of, row_of = state
    columns, free = jnp.arange(len(v)), real & (column_of < 0)
    reduced = jnp.maximum(cost - u[:, None] - v, 0)  # not below 0 but for rounding

    def visit(search: tuple) -> tuple:
        distance, parent, done, j = search  # j is the nearest column that is not done
        done, row = done | (columns == j), row_of[j]
        through = distance[j] + reduced[row]
        closer = ~done & (through < distance)
        distance, parent = jnp.where(closer, through, distance), jnp.where(closer, row, parent)
        return distance, parent, done, jnp.where(done, jnp.inf, distance).argmin()

    sources = jnp.where(free[:, None], reduced, jnp.inf)
    distance = sources.min(0)
    search = distance, sources.argmin(0), jnp.zeros(len(v), bool), distance.argmin()
    # Under vmap a matrix that is done goes through the rounds of the others: without a free row all distances are infinite.
    distance, parent, done, last = jax.lax.while_loop(
        lambda search: (row_of[search[3]] >= 0) & jnp.isfinite(search[0][search[3]]), visit, search
    )
    saved = jnp.where(done, distance[last] - distance, 0)  # of the columns that were passed
    u += jnp.where(free, distance[last], jnp.where(column_of >= 0, saved[column_of], 0))

    def flip(path: tuple) -> tuple:
        j, column_of, row_of = path
        row = parent[j]
        return column_of[row], jnp.where(jnp.arange(len(u)) == row, j, column_of), jnp.where(columns == j, row, row_of)

    first = jnp.where(jnp.isfinite(distance[last]), last, -1)
    _, column_of, row_of = jax.lax.while_loop(lambda path: path[0] >= 0, flip, (first, column_of, row_of))
    return u, v - saved, column_of, row_of
