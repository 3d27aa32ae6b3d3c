"""ONNX: onnxruntime computes what the model does, for any batch; what ONNX cannot hold is refused with the reason."""

from types import SimpleNamespace

import jax
import jaxtyping
import numpy as np
import pytest

from research.interop import onnx, stablehlo
from research.util.errors import UserError
from tests.contract.families import experiment

CODEC = SimpleNamespace(inputs={"tokens": (("b", "t"), "int32"), "length": (("b",), "int32")}, constraints=("t <= 5",))


def test_shapes_by_hand():
    specs = onnx.specs(CODEC)
    assert [str(d) for d in specs["tokens"].shape] == ["b", "5"] and specs["length"].dtype == np.int32
    inputs = {"tokens": np.array([[1, 2, 3]]), "length": np.array([3])}
    assert onnx.filled(CODEC, inputs)["tokens"].tolist() == [[1, 2, 3, 0, 0]]
    with pytest.raises(UserError, match="the size t has no bound"):
        onnx.specs(SimpleNamespace(inputs=CODEC.inputs, constraints=()))


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """As in tests/conftest.py: symbolic sizes are no ints."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("family", ["gan", "language_model"])
def test_onnxruntime_computes_the_model(family):
    e = experiment(family)
    variables, codec = jax.jit(e.init_fn)(jax.random.key(0)), e.predictor.codec
    fn, predict = onnx.load(onnx.export(e.predictor, variables)), jax.jit(e.predictor.fn)
    for batch in (1, 3):
        inputs = onnx.filled(codec, stablehlo.example(codec, batch, 4, jax.random.key(batch)))
        expected, found = jax.device_get(predict(variables, inputs)), fn(inputs)
        assert found.keys() == expected.keys()
        for name, x in expected.items():
            np.testing.assert_allclose(found[name], x, atol=1e-5)


def test_what_onnx_cannot_hold_is_refused():
    predictor = SimpleNamespace(
        codec=SimpleNamespace(inputs={"x": (("b", 2), "float32")}, constraints=()),
        fn=lambda variables, inputs: {
            "y": jax.vmap(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + i, x))(inputs["x"])
        },
    )
    with pytest.raises(UserError, match="ONNX cannot hold this model: "):
        onnx.export(predictor, {})
    with pytest.raises(UserError, match="onnxruntime does not load it"):
        onnx.load(b"something else")
