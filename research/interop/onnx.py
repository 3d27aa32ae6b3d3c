"""Export to ONNX by jax2onnx, and onnxruntime to run it: the prediction function with its parameters as constants.

jax2onnx replaces functions of JAX, and its plugins stay in place: export in a process that then ends. The batch's size is open. A
text's length is not, since jax2onnx cannot count positions of an open one: it is the model's longest.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from research.core.experiment import Codec, Predictor
from research.interop import stablehlo
from research.util.errors import UserError

OPSET, OUTPUT = 21, "_output"


def export(predictor: Predictor, variables: Mapping) -> bytes:
    """An ONNX model with the predictor's names; an output that has the name of an input ends in OUTPUT.

    Raises UserError for what ONNX cannot hold, with the reason.
    """
    jax2onnx, onnx = _packages()
    names, given = list(predictor.codec.inputs), list(specs(predictor.codec).values())
    constants = jax.device_get(variables)

    def predict(*arrays: Any) -> Mapping:
        return predictor.fn(constants, dict(zip(names, arrays, strict=True)))

    outputs = sorted(jax.eval_shape(predict, *given))
    try:
        with _quiet():
            model = jax2onnx.to_onnx(
                lambda *arrays: tuple(predict(*arrays)[name] for name in outputs),
                given, opset=OPSET, input_names=names,
                output_names=[name + OUTPUT * (name in names) for name in outputs],
            )  # fmt: skip
        del model.graph.value_info[:]  # shapes that jax2onnx's own rewriting has left behind
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"ONNX cannot hold this model: {type(error).__name__}: {words}") from None
    return model.SerializeToString()


def specs(codec: Codec) -> dict[str, jax.ShapeDtypeStruct]:
    """A codec's inputs with an open batch; other open sizes are the largest. Raises UserError for one without a bound."""
    (batch,), most = jax.export.symbolic_shape("b"), stablehlo.bounds(codec)
    sizes = {"b": batch, **most}
    shapes = {name: tuple(sizes.get(d, d) for d in shape) for name, (shape, _) in codec.inputs.items()}
    if unbounded := [d for shape in shapes.values() for d in shape if isinstance(d, str)]:
        raise UserError(f"ONNX cannot hold this model: the size {unbounded[0]} has no bound")
    return {name: jax.ShapeDtypeStruct(shapes[name], np.dtype(dtype)) for name, (_, dtype) in codec.inputs.items()}


def filled(codec: Codec, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs with zeros up to the sizes of `specs`."""
    most, out = stablehlo.bounds(codec), {}
    for name, (shape, _) in codec.inputs.items():
        x = np.asarray(inputs[name])
        out[name] = np.pad(x, [(0, most.get(d, n) - n) for d, n in zip(shape, x.shape, strict=True)])
    return out


def load(blob: bytes) -> Callable[[Mapping], dict[str, np.ndarray]]:
    """An ONNX model -> {name: array} -> {name: array}, on a CPU by onnxruntime. Raises UserError if it is none."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"onnxruntime does not load it: {' '.join(str(error).split())[:200]}") from None
    names = [output.name for output in session.get_outputs()]
    taken = [given.name for given in session.get_inputs()]  # what the model does not use is no input

    def fn(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = session.run(names, {name: np.asarray(inputs[name]) for name in taken})
        return {name.removesuffix(OUTPUT): x for name, x in zip(names, outputs, strict=True)}

    return fn


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
