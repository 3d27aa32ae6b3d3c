"""Fine-tuning: a rate for each layer, and layers that begin to train one after another, from the top.

A parameter's depth is read from its path: 0 for embeddings, i + 1 for layer h_i (or entry i of a scanned h), L + 1 for all
else, the heads. Two keys of a config's `finetune` group act on it:

    layer_decay     c: depth d trains at c^(L + 1 - d) times the rate (discriminative fine-tuning, Howard & Ruder 2018,
                    1801.06146, section 3.1, with c = 1 / 2.6; the depths are those of Bao et al. 2022, BEiT, 2106.08254)
    unfreeze_every  n: depth d trains from step (L + 1 - d) n on: the heads at once, a layer more every n steps, the
                    embeddings last (gradual unfreezing, same paper, section 3.3)

Layers that never train are `optim.freeze`'s.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import optim
from research.core.mesh import path_name
from research.util.errors import UserError

_LAYER = re.compile(r"(^|/)h_(\d+)/")
SCANNED = re.compile(r"(^|/)h/")
_EMBEDDINGS = re.compile(r"(^|/)(tokens|position|segment|embedding_norm)/")


def make(cfg: Mapping, how: Mapping, num_steps: int, own: optim.Own | None = None) -> optim.Optimizer:
    """The `optim` and `finetune` groups of a config (durations in steps) -> an Optimizer; its schedule is the heads'.

    The rule sees every gradient from the first step on. A layer that begins to train late thus has moments of as many
    steps as the others, where zero moments under the common bias correction would make Adam's first update of it
    (1 - b1) / sqrt(1 - b2), three times the rate. Until then its updates, decay too, are 0.
    """
    decay, every = how["layer_decay"], how["unfreeze_every"]
    if not 0 < decay <= 1:
        raise UserError(f"finetune.layer_decay = {decay}: above 0 and at most 1")
    if every < 0:
        raise UserError(f"finetune.unfreeze_every = {every}: at least 0")
    tx = optim.make(cfg, num_steps, own=own)
    if decay == 1 and not every:
        return tx
    by_layer = optax.chain(optax.GradientTransformation(tx.init, tx.update), _by_layer(decay, every))
    return tx._replace(init=by_layer.init, update=by_layer.update)


def depths(params: Any) -> tuple[Any, int]:
    """A tree of parameters -> (the depth of each leaf: an int, or i64[L] for a stack of layers, and L)."""
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [path_name(path) for path, _ in paths]
    layers = [int(found[2]) + 1 for name in names if (found := _LAYER.search(name))]
    layers += [len(leaf) for name, (_, leaf) in zip(names, paths, strict=True) if SCANNED.search(name)]
    if not layers:
        raise UserError("finetune wants a model with layers h_0, h_1, ...; see the paths with `almanac show`")
    top = max(layers)

    def depth(name: str) -> Any:
        if found := _LAYER.search(name):
            return int(found[2]) + 1
        if SCANNED.search(name):
            return np.arange(1, top + 1)
        return 0 if _EMBEDDINGS.search(name) else top + 1

    return jax.tree.unflatten(tree, [depth(name) for name in names]), top


class _Count(NamedTuple):
    count: jax.Array  # i32[], updates made


def _by_layer(decay: float, every: int) -> optax.GradientTransformation:
    def init(params):
        depths(params)  # a model without layers is told at once
        return _Count(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        depth, top = depths(updates)

        def one(update, depth):
            below = np.reshape(top + 1 - depth, np.shape(depth) + (1,) * (update.ndim - np.ndim(depth)))
            scaled = update * np.asarray(decay**below, update.dtype)
            return jnp.where(state.count >= below * every, scaled, 0) if every else scaled

        return jax.tree.map(one, updates, depth), _Count(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)
