"""Attention weights, their flow through the layers, and their agreement with gradients.

Maps are the weights of every layer and head that `research.nn.attention.Attention` stores; pooling weights are the output of
`TanhAttention`. The agreement is that of Jain and Wallace (2019, Attention is not Explanation, 1902.10186, section 4.1):
Kendall's tau between a text's weights and the magnitudes of its tokens' gradients, with the attention held constant.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
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


def maps(model: nn.Module, variables: Any, *inputs: jax.Array, method: str = "__call__") -> dict[str, np.ndarray]:
    """{"layer 0": f32[B, H, T, S], ...} in the order of the layers; rows sum to 1. Empty without attention."""
    apply = jax.jit(lambda *inputs: model.apply(variables, *inputs, method=method, mutable=["intermediates"])[1])
    layers: dict[int, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(apply(*inputs).get("intermediates", {})):
        name = path_name(path)
        if "/weights/" not in f"/{name}/":
            continue
        layer = re.search(r"h_(\d+)/", name)
        stack = [leaf] if layer else list(leaf)  # in a scan, the leading axis is the layers
        for i, weights in enumerate(stack, int(layer[1]) if layer else 0):
            B, N, G, T, S = weights.shape
            layers[i] = np.asarray(weights, np.float32).reshape(B, N * G, T, S)
    return {f"layer {i}": layers[i] for i in sorted(layers)}


def rollout(layers: Mapping[str, np.ndarray]) -> np.ndarray:
    """What `maps` returns -> f32[B, T, T]: the share of each first input in each last output, if only attention mixed them.

    A layer's weights are the mean of its heads', and half of each output is its own input, by the residual connection (Abnar
    and Zuidema 2020, 2005.00928, section 3). Rows sum to 1.

    >>> layer = np.array([[[[1.0, 0.0], [1.0, 0.0]]]])  # one head, of which both tokens attend to the first
    >>> rollout({"layer 0": layer, "layer 1": layer}).tolist()
    [[[1.0, 0.0], [0.75, 0.25]]]
    """
    mixed = [(w.mean(1) + np.eye(w.shape[-1], dtype=w.dtype)) / 2 for w in layers.values()]
    return reduce(lambda flow, layer: layer @ flow, mixed)


def pooled(run: Callable[[], Any], fixed: bool = False) -> tuple[Any, jax.Array]:
    """Calls `run`, which applies a model -> its result, and the weights f32[B, T] of its attention pooling.

    With `fixed` the weights are constants for gradients. Raises UserError if the model does not pool by attention.
    """
    outputs: list[jax.Array] = []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if not isinstance(context.module, TanhAttention) or context.method_name != "__call__":
            return out
        outputs.append(out)
        return jax.lax.stop_gradient(out) if fixed else out

    with nn.intercept_methods(intercept):
        result = run()
    if len(outputs) != 1:
        raise UserError(
            "the model does not pool by attention: model.pool = 'attention' of model.name = 'recurrent' does"
        )
    return result, outputs[0]


def agreement(predict: Callable[[Any], jax.Array], batches: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """{"tau": f64[n], "class": i64[n], the predicted class} of each text of at least two tokens.

    `predict(batch)` returns the probabilities f32[B, N] of a model that pools by attention; batches are {"tokens", "length",
    "mask"}. The gradient is |gradient x input| of the predicted class's probability for each token; tau
    (SciPy's tau-b) is NaN if all weights or all gradients are equal.
    """

    @jax.jit
    def weights_and_gradients(batch):
        p, weights = pooled(lambda: predict(batch))
        top1 = p.argmax(1)
        score = lambda: jnp.take_along_axis(pooled(lambda: predict(batch), fixed=True)[0], top1[:, None], 1)[:, 0]  # noqa: E731
        grads, embedded, _ = gradients(score)
        return weights, jnp.abs(by_token(grads * embedded)), top1

    taus, classes = [], []
    for batch in batches:
        inputs = {k: batch[k] for k in ("tokens", "length")}
        weights, magnitudes, top1 = map(np.asarray, weights_and_gradients(inputs))
        for row in np.flatnonzero(batch["mask"]):
            if (n := batch["length"][row]) > 1:
                taus.append(scipy.stats.kendalltau(weights[row, :n], magnitudes[row, :n]).statistic)
                classes.append(top1[row])
    return {"tau": np.array(taus, np.float64), "class": np.array(classes, np.int64)}
