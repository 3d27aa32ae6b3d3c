"""A value with a class: one more input, stored with the codec within."""

import numpy as np
import pytest

from research.data import codecs
from research.data.latents import Latent
from research.data.with_class import WithClass, class_number
from research.util.errors import UserError

CODEC = WithClass(Latent(2), ("cat", "dog"))


def test_a_class_is_one_more_input(tmp_path):
    assert CODEC.inputs == {"z": (("b", 2), "float32"), "label": (("b",), "int32")}
    (tmp_path / "dog").mkdir()
    np.save(tmp_path / "dog" / "z.npy", np.array([0.5, -1.0]))
    row = CODEC.encode(CODEC.read(tmp_path / "dog" / "z.npy"))
    assert row["z"].tolist() == [[0.5, -1.0]] and row["label"].tolist() == [1]
    assert CODEC.decode({"x": np.array([[1.0, 2.0]])}) == {"x": [1.0, 2.0]}
    assert codecs.from_json(codecs.to_json(CODEC)) == CODEC


@pytest.mark.parametrize("value, words", [(np.zeros(2), "takes \\(value, name"), ((np.zeros(2), "dgo"), "'dgo'.*dog")])
def test_what_is_no_pair_is_refused(value, words):
    with pytest.raises(UserError, match=words):
        CODEC.encode(value)


def test_a_class_that_a_model_does_not_read_or_know():
    assert class_number(CODEC, "dog") == 1
    with pytest.raises(UserError, match="no class 'dgo'; did you mean 'dog'"):
        class_number(CODEC, "dgo")
    with pytest.raises(UserError, match="the model reads no class"):
        class_number(Latent(2), "dog")


def test_what_is_drawn_is_drawn_of_the_value_within():
    class Drawing(Latent):
        def draw(self, value, decoded):
            return value, decoded

    assert CODEC.draw is None and WithClass(Drawing(2), ("cat",)).draw(("z", "cat"), "x") == ("z", "x")
