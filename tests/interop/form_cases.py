"""Conversions for test_onnx.py and test_litert.py: `python -m tests.interop.form_cases FORM CASE...`.

A case is a family or a key of BY_HAND. Prints as JSON, for each, the largest difference between the form's runtime and the model,
or {"refused": why}.
"""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from research.core import config
from research.interop import stablehlo
from research.run import reopen
from research.serving import forms, run_bundle
from research.util.errors import UserError

MATRICES = jnp.array([[[1.0, 2.0], [0.0, 1.0]], [[0.5, 0.0], [1.0, 1.0]]])
BY_HAND = {  # functions of f32[B, 2]
    "bfloat16": lambda x: (x.astype(jnp.bfloat16) @ MATRICES[0].astype(jnp.bfloat16)).astype(jnp.float32),
    "loop": jax.vmap(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + i, x)),
    "identity": lambda x: x,
    "resize": lambda x: jax.image.resize(x, (x.shape[0], 4), "bilinear"),
    "scan": lambda x: jax.lax.scan(lambda x, matrix: (x @ matrix, None), x, MATRICES)[0],
    "scan_reverse": lambda x: jax.lax.scan(lambda x, matrix: (x @ matrix, None), x, MATRICES, reverse=True)[0],
    "top_k": lambda x: jax.lax.top_k(x, 1)[0],
}


def main(form: str, cases: list[str]) -> None:
    # Before jax2onnx is imported, which replaces functions of JAX.
    prepared = {case: prepare(form, case) for case in cases}
    print(json.dumps({case: compared(form, *each) for case, each in prepared.items()}))


def prepare(form: str, case: str) -> tuple:
    """-> a predictor, its variables, inputs of two batch sizes and lengths, and what the model makes of them."""
    if case in BY_HAND:
        codec = SimpleNamespace(inputs={"x": (("b", 2), "float32")}, constraints=())
        predictor = SimpleNamespace(codec=codec, fn=lambda variables, inputs: {"y": BY_HAND[case](inputs["x"])})
        variables = {}
    else:
        e = reopen.build(f"{case}/tiny", config.load(f"{case}/tiny"))
        predictor, variables = e.predictor, jax.jit(e.init_fn)(jax.random.key(0))
    codec, predict = predictor.codec, jax.jit(predictor.fn)
    given = [stablehlo.example(codec, batch, length, jax.random.key(batch)) for batch, length in ((1, 4), (3, 7))]
    inputs = [run_bundle.prepared(form, about(codec), each) for each in given]
    return predictor, variables, inputs, [jax.device_get(predict(variables, each)) for each in inputs]


def compared(form: str, predictor, variables, inputs: list, expected: list) -> float | dict:
    try:
        blob = forms.export(form, predictor, variables)
        fn = run_bundle.model(form, blob, {**about(predictor.codec), "outputs": expected[0]})
    except (UserError, run_bundle.Damaged) as error:
        return {"refused": str(error)}
    pairs = [(x, y[name]) for each, y in zip(inputs, expected, strict=True) for name, x in fn(each).items()]
    assert all(np.shape(a) == np.shape(b) for a, b in pairs)
    return max(float(np.abs(np.asarray(a, np.float64) - b).max()) for a, b in pairs)


def about(codec) -> dict:
    """What a manifest says of a codec."""
    inputs = {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in codec.inputs.items()}
    return {"inputs": inputs, "constraints": codec.constraints}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
