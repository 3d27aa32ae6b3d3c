"""What is explained: the logit of a class, and what there is none of."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.interpret import targets
from research.util.errors import UserError

CLASSES = ("cat", "dog", "bird")
IMAGE = np.ones((1, 2, 2, 1), np.float32)


def logits(variables, image):
    return variables * image.sum((1, 2, 3))[:, None] / 4


def test_the_logit_of_a_class_is_by_default_that_of_the_top_one():
    variables = jnp.log(jnp.array([1.0, 5.0, 2.0]))
    target = targets.class_logit(logits, variables, IMAGE, CLASSES, None)
    assert target.facts == target.names == ["dog: probability 0.6250"]
    np.testing.assert_allclose(target.score(variables, 3 * IMAGE), [3 * np.log(5)], rtol=1e-5)
    bird = targets.class_logit(logits, variables, IMAGE, CLASSES, "bird", ["frame 0"])
    assert bird.facts == ["bird: probability 0.2500; top-1 dog"] and bird.names == ["frame 0"]
    np.testing.assert_allclose(bird.score(variables, IMAGE), [np.log(2)], rtol=1e-5)


def test_what_is_not_there_is_named():
    for call, error in (
        (lambda: targets.class_number(CLASSES, "brid"), "--class=brid; did you mean 'bird'?"),
        (lambda: targets.number("unit", 8, 0, 7), "--unit=8: from 0 to 7"),
        (lambda: targets.pixel((0, 5), (6, 5)), "--at=0,5: outside of 6 x 5 pixels"),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert error in str(caught.value)
    assert targets.number("unit", 7, 0, 7) == 7 and targets.pixel((5, 4), (6, 5)) == (5, 4)
