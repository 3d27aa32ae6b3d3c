"""What attention weighs, and whether its weights agree with gradients.

Maps are those that `research.nn.attention.Attention` keeps of every layer and head; pooling's are the output of
`TanhAttention`. The agreement is Jain and Wallace's (2019, Attention is not Explanation, 1902.10186, section 4.1): Kendall's
tau of a text's weights and its tokens' gradients, of their sizes, with the attention held fixed.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from research.core.mesh import path_name
from research.interpret.attributions import by_token, gradients
from research.models.text.text_recurrent import TanhAttention
from research.util.errors import UserError


def maps(model: nn.Module, variables: Any, *inputs: jax.Array) -> dict[str, np.ndarray]:
    """{"layer 0": f32[B, H, T, S], ...} in the order of the layers, rows summing to 1; empty for a model without any."""
    apply = jax.jit(lambda *inputs: model.apply(variables, *inputs, mutable=["intermediates"])[1])
    found: dict[int, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(apply(*inputs).get("intermediates", {})):
        name = path_name(path)
        if "/weights/" not in f"/{name}/":
            continue
        layer = re.search(r"h_(\d+)/", name)
        stack = [leaf] if layer else list(leaf)  # a scan's have a leading axis of layers
        for i, one in enumerate(stack, int(layer[1]) if layer else 0):
            B, N, G, T, S = one.shape
            found[i] = np.asarray(one, np.float32).reshape(B, N * G, T, S)
    return {f"layer {i}": found[i] for i in sorted(found)}


def pooled(run: Callable[[], Any], fixed: bool = False) -> tuple[Any, jax.Array]:
    """`run()`, which applies a model -> its result, and the weights f32[B, T] with which attention pools there.

    With `fixed` no gradient passes through the weights. UserError where nothing pools by attention.
    """
    found: list[jax.Array] = []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if not isinstance(context.module, TanhAttention) or context.method_name != "__call__":
            return out
        found.append(out)
        return jax.lax.stop_gradient(out) if fixed else out

    with nn.intercept_methods(intercept):
        result = run()
    if len(found) != 1:
        raise UserError(
            "the model does not pool by attention: model.pool = 'attention' of model.name = 'recurrent' does"
        )
    return result, found[0]


def agreement(predict: Callable[[Any], jax.Array], batches: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """{"tau": f64[n], "class": i64[n], the class called}, of every text of two tokens or more.

    `predict(batch)` is the probabilities f32[B, N] of a model that pools by attention; batches are {"tokens", "length",
    "mask"}. The gradient is that of the called class's probability along each token's embedding, its absolute value; tau
    (scipy's tau-b) is NaN where either side is all equal.
    """

    @jax.jit
    def both(batch):
        p, weights = pooled(lambda: predict(batch))
        called = p.argmax(1)
        score = lambda: jnp.take_along_axis(pooled(lambda: predict(batch), fixed=True)[0], called[:, None], 1)[:, 0]  # noqa: E731
        grads, embedded, _ = gradients(score)
        return weights, jnp.abs(by_token(grads * embedded)), called

    taus, classes = [], []
    for batch in batches:
        weights, sizes, called = map(np.asarray, both({k: batch[k] for k in ("tokens", "length")}))
        for row in np.flatnonzero(batch["mask"]):
            if (n := batch["length"][row]) > 1:
                taus.append(scipy.stats.kendalltau(weights[row, :n], sizes[row, :n]).statistic)
                classes.append(called[row])
    return {"tau": np.array(taus, np.float64), "class": np.array(classes, np.int64)}
