"""Conversions for test_onnx.py and test_litert.py: `python -m tests.interop.form_cases FORM CASE...`.

A case is a family or a key of BY_HAND. Prints {case: the largest difference between the form's runtime and the model, or {"refused": why}} as JSON.
"""

import json
import sys
from types import SimpleNamespace

import jax
import numpy as np

from research.core import config
from research.interop import stablehlo
from research.run import reopen
from research.serving import forms, run_bundle
from research.util.errors import UserError

BY_HAND = {
    "loop": jax.vmap(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + i, x)),
    "top_k": lambda x: jax.lax.top_k(x, 1)[0],
}


def main(form: str, cases: list[str]) -> None:
    prepared = {case: prepare(case) for case in cases}  # before jax2onnx is imported, which replaces functions of JAX
    print(json.dumps({case: compared(form, *each) for case, each in prepared.items()}))


def prepare(case: str) -> tuple:
    """-> a predictor, its variables, inputs of two batch sizes and lengths, and what the model makes of them."""
    if case in BY_HAND:
        codec = SimpleNamespace(inputs={"x": (("b", 2), "float32")}, constraints=())
        predictor = SimpleNamespace(codec=codec, fn=lambda variables, inputs: {"y": BY_HAND[case](inputs["x"])})
        variables = {}
    else:
        e = reopen.build(f"{case}/tiny", config.load(f"{case}/tiny"))
        predictor, variables = e.predictor, jax.jit(e.init_fn)(jax.random.key(0))
    codec, predict = predictor.codec, jax.jit(predictor.fn)
    given = [stablehlo.example(codec, batch, 4, jax.random.key(batch)) for batch in (1, 3)]
    inputs = [run_bundle.filled(about(codec), each) for each in given]
    return predictor, variables, inputs, [jax.device_get(predict(variables, each)) for each in inputs]


def compared(form: str, predictor, variables, inputs: list, expected: list) -> float | dict:
    try:
        blob = forms.export(form, predictor, variables)
    except UserError as error:
        return {"refused": str(error)}
    fn = run_bundle.model(form, blob, {**about(predictor.codec), "outputs": expected[0]})
    pairs = [(x, y[name]) for each, y in zip(inputs, expected, strict=True) for name, x in fn(each).items()]
    assert all(np.shape(a) == np.shape(b) for a, b in pairs)
    return max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in pairs)


def about(codec) -> dict:
    """What a manifest says of a codec."""
    inputs = {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in codec.inputs.items()}
    return {"inputs": inputs, "constraints": codec.constraints}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
