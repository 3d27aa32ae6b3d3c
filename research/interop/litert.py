"""Export to LiteRT by jax2tf and TensorFlow's converter: the prediction function with its parameters as constants.

One row is a batch: with an open one the converter does not hold attention, and LiteRT's fast kernels (XNNPACK) want fixed sizes.
A text's length is the model's longest. TensorFlow reads an older StableHLO than JAX writes, so that some operations are refused.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import jax

from research.core.experiment import Predictor
from research.interop import stablehlo
from research.util.errors import UserError

_ERROR = re.compile(r"error: (.+)")


def export(predictor: Predictor, variables: Mapping, int8: bool = False) -> bytes:
    """A LiteRT model with the predictor's names, f32; `int8`: weights are int8, and activations become so at run time.

    Matrices and kernels of fewer than 1,024 numbers stay f32. Raises UserError for what LiteRT cannot hold, with the reason.
    """
    jax2tf, tf = _packages()
    constants = jax.device_get(variables)

    def predict(**inputs: Any) -> dict:
        return dict(predictor.fn(constants, inputs))

    given = stablehlo.largest_row(predictor.codec)
    module = tf.Module()
    module.predict = tf.function(jax2tf.convert(predict, with_gradient=False), autograph=False)
    with _standard_error() as messages:
        try:
            function = module.predict.get_concrete_function(
                **{name: tf.TensorSpec(x.shape, x.dtype, name=name) for name, x in given.items()}
            )
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
            converter.optimizations = [tf.lite.Optimize.DEFAULT] if int8 else []
            return converter.convert()
        except Exception as error:
            messages.seek(0)
            found = _ERROR.search(messages.read()) or _ERROR.search(str(error))
            words = " ".join((found[1] if found else str(error)).split())[:200]
            raise UserError(f"LiteRT cannot hold this model: {type(error).__name__}: {words}") from None


def _packages() -> tuple[Any, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    try:
        import tensorflow
        from jax.experimental import jax2tf
    except ImportError as error:
        raise UserError(
            f"LiteRT needs {error.name}: ./almanac makes an environment for it, and elsewhere pip install almanac[litert] does"
        ) from None
    return jax2tf, tensorflow


@contextlib.contextmanager
def _standard_error() -> Iterator[IO[str]]:
    """A file with what this process writes to standard error meanwhile: the converter's C++ says there what is wrong."""
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)
