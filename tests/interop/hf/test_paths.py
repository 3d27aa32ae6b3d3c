"""Paths: layers stacked and one by one, and moved."""

import numpy as np

from research.interop.hf import paths

ONE = {"encoder/h_0/up": np.zeros(2), "encoder/h_1/up": np.ones(2), "h_norm/scale": np.ones(1)}
TWELVE = {f"h_{i}/up": np.full(1, i) for i in range(12)}


def test_layers_are_stacked_in_the_order_of_their_numbers():
    stack = paths.stacked(ONE | {"h_10x/up": np.ones(1)})
    assert list(stack) == ["h_norm/scale", "h_10x/up", "encoder/h/up"]
    assert stack["encoder/h/up"].tolist() == [[0, 0], [1, 1]]
    assert paths.stacked(dict(reversed(TWELVE.items())))["h/up"][:, 0].tolist() == list(range(12))
    assert paths.unstacked(paths.stacked(TWELVE)).keys() == TWELVE.keys()


def test_as_in_another_model():
    assert list(paths.as_in(["params/h/up"], TWELVE)) == ["h/up"]
    assert list(paths.as_in(["params/h_0/up"], paths.stacked(TWELVE))) == list(TWELVE)
    assert paths.alike("params/h_3/up") == paths.alike("params/h/up") == "params/h/up"


def test_moved():
    assert paths.moved("encoder/h_0/up", "encoder", "body") == "body/h_0/up"
    assert paths.moved("encoder/h_0/up", "encoder", "") == "h_0/up"
    assert paths.moved("pooler/dense", "encoder", "body") == "pooler/dense"
    assert paths.moved("h_0/up", "", "body") == "body/h_0/up"
    assert paths.moved("h_0/up", "", "") == "h_0/up"
