"""`almanac sample`: an option that a family does not know is refused by name, also by one that takes any option of text."""

import pytest

from research.util.errors import UserError
from tools.verbs.sample import _given


def of_text(e, state, key, out, *, prompt=None, **options): ...


def of_pictures(e, state, key, out, *, steps=None): ...


def test_what_is_set_is_passed_on():
    assert _given({"prompt": "a", "top_k": 3, "stop": [], "steps": None}, of_text, "x") == {"prompt": "a", "top_k": 3}
    assert _given({"prompt": None, "steps": 3}, of_pictures, "x") == {"steps": 3}


@pytest.mark.parametrize(
    "options, sample, words",
    [
        ({"guidance": 0.0}, of_text, "--guidance is not an option of x"),
        ({"guidance": 1.0}, of_pictures, "--guidance is not an option of x"),
        ({"steps": 2, "top_k": 3}, of_pictures, "--top-k is for text; x generates images"),
    ],
)
def test_what_a_family_does_not_know_is_refused(options, sample, words):
    with pytest.raises(UserError, match=words):
        _given(options, sample, "x")
