"""Export to ONNX by jax2onnx: the prediction function with its parameters as constants.

jax2onnx replaces functions of JAX, and its plugins stay in place: export in a process that then ends. The batch's size
is open, and so is a text's length.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from research.core.experiment import Predictor
from research.interop import stablehlo
from research.util.errors import UserError

OPSET, OUTPUT = 21, "_output"


def export(predictor: Predictor, variables: Mapping) -> bytes:
    """An ONNX model with the predictor's names; an output that has the name of an input ends in OUTPUT.

    Raises UserError for what ONNX cannot hold, with the reason.
    """
    jax2onnx, onnx = _packages()
    constants, given = jax.device_get(variables), stablehlo.specs(predictor.codec)
    names = list(given)

    def predict(*arrays: Any) -> Mapping:
        return predictor.fn(constants, dict(zip(names, arrays, strict=True)))

    outputs = sorted(jax.eval_shape(predict, *given.values()))

    def rows(*arrays: Any) -> tuple:
        with _open_arange():
            found = predict(*arrays)
        # An input that is an output, too, would have two names.
        return tuple(found[name] + 0 if any(found[name] is x for x in arrays) else found[name] for name in outputs)

    try:
        with _quiet():
            model = jax2onnx.to_onnx(
                rows, list(given.values()), opset=OPSET, input_names=names,
                output_names=[name + OUTPUT * (name in names) for name in outputs],
            )  # fmt: skip
        del model.graph.value_info[:]  # shapes that jax2onnx's own rewriting has left behind
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"ONNX cannot hold this model: {type(error).__name__}: {words}") from None
    return model.SerializeToString()


def _packages() -> tuple[Any, Any]:
    try:
        with _quiet():
            import jax2onnx
            import onnx
    except ImportError as error:
        raise UserError(
            f"ONNX needs {error.name}, which asks for an older Orbax: ./almanac makes an environment for it, and elsewhere "
            "pip install --no-deps does with what requirements-onnx.lock lists"
        ) from None
    return jax2onnx, onnx


@contextlib.contextmanager
def _open_arange() -> Iterator[None]:
    """Counts an open size by a running sum of ones: what jax2onnx puts in the place of `jnp.arange` loses the size's name."""
    given = jnp.arange

    def arange(*bounds: Any, **options: Any) -> jax.Array:
        if len(bounds) != 1 or not jax.export.is_symbolic_dim(bounds[0]):
            return given(*bounds, **options)
        return jnp.cumsum(jnp.ones(bounds, options.get("dtype", jnp.int32))) - 1

    jnp.arange = arange
    try:
        yield
    finally:
        jnp.arange = given


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """jax2onnx prints and warns of its own workings."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
