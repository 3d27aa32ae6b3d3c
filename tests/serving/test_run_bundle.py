"""What runs a bundle's ONNX and LiteRT forms: filling up, names, rows, and what is no model."""

import sys
from types import ModuleType

import numpy as np
import pytest

from research.serving import run_bundle

ABOUT = {
    "inputs": {"tokens": {"shape": ["b", "t"], "dtype": "int32"}, "length": {"shape": ["b"], "dtype": "int32"}},
    "outputs": {"tokens": {}, "sum": {}},
    "constraints": ["t <= 5"],
}
INPUTS = {"tokens": [[1, 2, 3], [4, 5, 6]], "length": [3, 2]}


def test_litert_has_texts_filled_up_with_zeros():
    filled = run_bundle.prepared("litert", ABOUT, INPUTS)
    assert filled["tokens"].tolist() == [[1, 2, 3, 0, 0], [4, 5, 6, 0, 0]] and filled["tokens"].dtype == np.int32
    assert filled["length"].tolist() == [3, 2] and run_bundle.prepared("onnx", ABOUT, INPUTS)["tokens"].shape == (2, 3)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"tokens": [[1] * 6]}, r"tokens is of shape \(1, 6\), the model takes \['b', 't'\] t <= 5"),
        ({"length": [[3]]}, r"length is of shape \(1, 1\)"),
        ({"image": np.zeros((2, 7))}, r"image is of shape \(2, 7\), the model takes \['b', 8\]"),
        ({"image": None}, "the input image is missing"),
    ],
)
def test_an_input_of_another_shape_is_named(changed, said):
    about = {**ABOUT, "inputs": {**ABOUT["inputs"], "image": {"shape": ["b", 8], "dtype": "float32"}}}
    inputs = {**INPUTS, "image": np.zeros((2, 8)), **changed}
    with pytest.raises(ValueError, match=said):
        run_bundle.prepared("litert", about, {name: x for name, x in inputs.items() if x is not None})


def test_onnx_of_a_model_written_by_hand():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, ints = onnx.helper, onnx.TensorProto.INT32
    graph = h.make_graph(
        [h.make_node("ReduceSum", ["tokens"], ["sum"], keepdims=1), h.make_node("Neg", ["tokens"], ["tokens_output"])],
        "sums",
        [h.make_tensor_value_info("tokens", ints, ["b", "t"])],  # the length is not used, and so no input
        [h.make_tensor_value_info("sum", ints, [1, 1]), h.make_tensor_value_info("tokens_output", ints, ["b", "t"])],
    )
    blob = h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10).SerializeToString()
    outputs = run_bundle.model("onnx", blob, ABOUT)(INPUTS)
    assert outputs["sum"].tolist() == [[21]] and outputs["tokens"][1].tolist() == [-4, -5, -6]
    with pytest.raises(run_bundle.Damaged, match="onnxruntime does not load it"):
        run_bundle.model("onnx", b"something else", ABOUT)


class Runner:
    """A LiteRT signature of one row, which does not use the length."""

    def get_input_details(self):
        return {"tokens": None}

    def __call__(self, tokens):
        assert tokens.shape == (1, 5)
        return {"tokens": -tokens, "sum": tokens.sum(1)}


def test_litert_takes_a_row_at_a_time(monkeypatch):
    runtime = ModuleType("ai_edge_litert.interpreter")

    class Interpreter:
        def __init__(self, model_content, num_threads):
            if model_content != b"model":
                raise ValueError("Model provided has model identifier 'some'")
            self.num_threads = num_threads

        def get_signature_runner(self):
            return Runner()

    runtime.Interpreter = Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", runtime)
    outputs = run_bundle.model("litert", b"model", ABOUT)(INPUTS)
    assert outputs["sum"].tolist() == [6, 15] and outputs["tokens"].shape == (2, 5)
    with pytest.raises(run_bundle.Damaged, match="LiteRT does not load it: Model provided"):
        run_bundle.model("litert", b"something else", ABOUT)
