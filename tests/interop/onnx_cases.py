"""Conversions for test_onnx.py, each in a process of its own: `python -m tests.interop.onnx_cases FAMILY|refused`."""

import json
import sys
from types import SimpleNamespace

import jax
import numpy as np

from research.core import config
from research.interop import onnx, stablehlo
from research.run import reopen
from research.util.errors import UserError


def main(case: str) -> None:
    print(json.dumps(refused() if case == "refused" else compared(case)))


def compared(family: str) -> dict:
    """The largest difference between onnxruntime and the model, whose outputs are computed before jax2onnx is imported."""
    e = reopen.build(f"{family}/tiny", config.load(f"{family}/tiny"))
    variables, codec = jax.jit(e.init_fn)(jax.random.key(0)), e.predictor.codec
    predict, batches = jax.jit(e.predictor.fn), [1, 3]
    inputs = [onnx.filled(codec, stablehlo.example(codec, batch, 4, jax.random.key(batch))) for batch in batches]
    expected = [jax.device_get(predict(variables, each)) for each in inputs]
    fn = onnx.load(onnx.export(e.predictor, variables))
    pairs = [(x, y[name]) for each, y in zip(inputs, expected, strict=True) for name, x in fn(each).items()]
    return {
        "names": sorted(expected[0]),
        "batches": [len(next(iter(each.values()))) for each in expected],
        "difference": max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in pairs),
    }


def refused() -> dict:
    """The messages for a loop under `vmap`, and for bytes that are no model."""
    codec = SimpleNamespace(inputs={"x": (("b", 2), "float32")}, constraints=())
    loop = jax.vmap(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + i, x))
    messages = {}
    for name, call in {
        "export": lambda: onnx.export(
            SimpleNamespace(codec=codec, fn=lambda variables, inputs: {"y": loop(inputs["x"])}), {}
        ),
        "load": lambda: onnx.load(b"something else"),
    }.items():
        try:
            call()
        except UserError as error:
            messages[name] = str(error)
    return messages


if __name__ == "__main__":
    main(sys.argv[1])
