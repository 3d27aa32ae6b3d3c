import numpy as np
import pytest

from research.data import tokenizers
from research.data.tokenizers.tagged import Tagged
from research.util.errors import UserError


@pytest.fixture(params=["word", "bpe"])
def tagged(request):
    options = {"word": dict(special=("eos",)), "bpe": dict(vocab_size=300)}[request.param]
    return Tagged(tokenizers.make(request.param, "a dog runs and a cat", **options), ["2de", "2en"])


def test_a_tag_at_the_beginning_is_one_token(tagged):
    inner = tagged.inner
    assert tagged.size == inner.size + 2 and tagged.special == {
        **inner.special,
        "2de": inner.size,
        "2en": inner.size + 1,
    }
    np.testing.assert_array_equal(tagged.encode("<2en> a dog"), [inner.size + 1, *inner.encode("a dog")])
    assert tagged.decode(tagged.encode("<2en> a dog")) == "<2en> a dog"
    for text in ("a <2en> dog", "2en a dog", "<2fr> a", "<2en>a", ""):
        np.testing.assert_array_equal(tagged.encode(text), inner.encode(text))


def test_it_is_restored_from_its_json(tagged):
    again = tokenizers.from_json(tagged.to_json())
    np.testing.assert_array_equal(again.encode("<2de> a cat"), tagged.encode("<2de> a cat"))
    assert again.special == tagged.special and again.to_json() == tagged.to_json()


def test_mistakes(tagged):
    with pytest.raises(UserError, match="not among"):
        tagged.decode(np.array([tagged.size]))
    with pytest.raises(UserError, match="made around another"):
        tokenizers.make("tagged", "a")
