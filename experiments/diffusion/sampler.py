"""Pictures from a trained network, in any number of steps."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diffusion.model import UNet
from experiments.diffusion.process import Process
from research.generation import diffusion
from research.util.errors import UserError

AT_ONCE = 100  # pictures that one program draws


class Sampler:
    """(variables, key, classes i32[n], options) -> pictures f32[n, Y, X, C] in 0..1. Picture i depends on key, class and i alone.

    `defaults` has the options: `steps` between noise and picture; `eta`, 0 for DDIM and 1 for DDPM; `guidance`, 0 for none.
    """

    def __init__(self, model: UNet, process: Process, shape: tuple[int, int, int], defaults: Mapping[str, Any]):
        self._model, self._process, self._shape = model, process, shape
        self.defaults = {name: defaults[name] for name in ("steps", "eta", "guidance")}
        self._checked({})
        self._program = jax.jit(self._sample, static_argnames=("is_guided", "repeats"))

    def __call__(
        self,
        variables: Any,
        key: jax.Array,
        labels: np.ndarray,
        known: diffusion.Known | None = None,
        after_batch: Callable[[], Any] = lambda: None,
        **options: Any,
    ) -> np.ndarray:
        """`known` has pixels to keep, f32[n, Y, X, C] in 0..1 and bool. Options that are None are the defaults.

        Calls `after_batch` after each AT_ONCE pictures. Raises UserError for options that cannot be.
        """
        options = self._checked(options)
        parts = []
        for start in range(0, len(labels), AT_ONCE):
            rows = np.arange(start, start + AT_ONCE)  # the last program's surplus is cut off
            take = np.minimum(rows, len(labels) - 1)
            kept = known and (known.picture[take], known.mask[take])
            keys = jax.vmap(partial(jax.random.fold_in, key))(rows)
            drawn = self._program(
                variables, keys, jnp.asarray(labels[take]), kept, **options,
                is_guided=options["guidance"] != 0, repeats=known.repeats if known else 1,
            )  # fmt: skip
            parts.append(np.asarray(drawn)[: len(labels) - start])
            after_batch()
        return np.concatenate(parts)

    def predict(self, variables: Any, inputs: Any) -> dict:
        """{"noise": f32[B, Y, X, C], of a conditional model "label": i32[B]} -> {"image": f32[B, Y, X, C] in 0..1}.

        The way from noise to a picture by the default steps and guidance, with eta = 0 whatever its default.
        """
        noise = inputs["noise"]
        label = inputs.get("label", jnp.zeros(noise.shape[0], jnp.int32))
        guidance = self.defaults["guidance"]
        predict = self._network(variables, label, guidance, guidance != 0)
        return {"image": _to_image(self._steps(predict, noise, steps=self.defaults["steps"]))}

    def _sample(self, variables, keys, label, known, steps, eta, guidance, is_guided, repeats):
        fold = jax.vmap(jax.random.fold_in, (0, None))
        noise = jax.vmap(lambda key: jax.random.normal(key, self._shape))(fold(keys, 0))
        if known:
            known = diffusion.Known(2 * known[0] - 1, known[1], repeats)
        predict = self._network(variables, label, guidance, is_guided)
        return _to_image(self._steps(predict, noise, steps=steps, eta=eta, keys=fold(keys, 1), known=known))

    def _steps(self, predict: Any, noise: jax.Array, **options: Any) -> jax.Array:
        return diffusion.sample(predict, noise, self._process.signal, of=self._process.predicts, **options)

    def _network(self, variables: Any, label: jax.Array, guidance: Any, is_guided: bool) -> Any:
        """(noisy pictures, time) -> prediction."""
        model, last = self._model, self._process.last

        def plain(x: jax.Array, time: jax.Array) -> jax.Array:
            return model.apply(variables, x, jnp.full(x.shape[0], time / last), label)

        def with_guidance(x: jax.Array, time: jax.Array) -> jax.Array:
            both = jnp.concatenate([label, jnp.full_like(label, model.num_classes)])
            twice = model.apply(variables, jnp.tile(x, (2, 1, 1, 1)), jnp.full(2 * x.shape[0], time / last), both)
            return diffusion.guided(twice[: x.shape[0]], twice[x.shape[0] :], guidance)

        return with_guidance if is_guided else plain

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        options = self.defaults | {name: value for name, value in options.items() if value is not None}
        steps, eta, guidance = (options[name] for name in ("steps", "eta", "guidance"))
        if not 1 <= steps <= self._process.last:
            raise UserError(f"{steps} steps: from 1 to the {self._process.last} times of the model")
        if not 0 <= eta <= 1:
            raise UserError(f"eta = {eta}: from 0 (DDIM) to 1 (DDPM)")
        if guidance and not self._model.conditional:
            raise UserError(f"guidance = {guidance}: the model reads no class; train one with model.conditional=True")
        return options


def _to_image(x: jax.Array) -> jax.Array:
    return jnp.clip((x + 1) / 2, 0, 1)
