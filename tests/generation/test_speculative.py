"""Speculative decoding is plain sampling: the rule by exact enumeration, whole texts by exact probabilities."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from research.generation import decoding, speculative
from research.generation.constraints import from_regex
from research.models.text.gpt import GPT
from research.util.errors import UserError

KEY = jax.random.key(0)
VARIABLES = {"params": {"w": jnp.zeros(())}}


class Chain:
    """A model of the decoding protocol: a Markov chain of transition probabilities f[V, V]."""

    max_length = 1000

    def __init__(self, rows):
        self.rows = np.log(np.array(rows))
        self.vocab_size = len(rows)

    def init_cache(self, batch, length, dtype):
        return {"index": jnp.zeros((), jnp.int32)}

    def apply(self, variables, tokens, cache):
        return jnp.asarray(self.rows, jnp.float32)[tokens], {"index": cache["index"] + tokens.shape[1]}


LARGE = Chain([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])
SMALL = Chain([[0.2, 0.5, 0.3], [0.5, 0.1, 0.4], [0.3, 0.3, 0.4]])  # as good as no draft after 0 and 1, right after 2


def chance(text, before=0, temperature=1.0):
    """A text's probability by the large chain, from its matrix."""
    p = np.exp(LARGE.rows / temperature)
    p /= p.sum(1, keepdims=True)
    return float(np.prod([p[a, b] for a, b in zip([before, *text], text, strict=False)]))


def test_the_rule_enumerated():
    """Two tokens drafted, V = 3: over all drafts and a grid of uniforms, the first three tokens' exact probabilities.

    Every ratio p / q is a multiple of 1/8, so the middles of 8 equal cells stand for the whole of [0, 1).
    """
    q = np.array([[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]])
    p = np.array([[1 / 8, 1 / 4, 5 / 8], [1 / 2, 3 / 8, 1 / 8], [5 / 8, 1 / 8, 1 / 4]])  # the last: after both
    cells = (np.arange(8) + 0.5) / 8
    drafts = list(itertools.product(range(3), repeat=2))
    cases = list(itertools.product(drafts, itertools.product(cells, repeat=2)))
    n = len(cases)
    drafted, uniform = (np.array([case[i] for case in cases]) for i in (0, 1))
    accepted, rest = speculative.verify(
        jnp.asarray(np.broadcast_to(p, (n, 3, 3)), jnp.float32), jnp.asarray(np.broadcast_to(q, (n, 2, 3)), jnp.float32),
        jnp.asarray(drafted), jnp.asarray(uniform, jnp.float32),
    )  # fmt: skip
    rest = np.asarray(rest, np.float64)
    weight = q[0][drafted[:, 0]] * q[1][drafted[:, 1]] / 64
    first, second, third = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 3))
    for case, kept in enumerate(np.asarray(accepted)):
        a, b = drafted[case]
        last = weight[case] * rest[case] / rest[case].sum()
        if kept == 0:
            first += last
        else:
            first[a] += weight[case]
        if kept == 1:
            second[a] += last
        elif kept == 2:
            second[a, b] += weight[case]
            third[a, b] += last
    np.testing.assert_allclose(first, p[0], atol=1e-6)
    kept_first = np.minimum(p[0], q[0])  # the second token is drawn only after a draft that was kept
    np.testing.assert_allclose(second, kept_first[:, None] * p[1], atol=1e-6)
    kept_both = kept_first[:, None] * np.minimum(p[1], q[1])
    np.testing.assert_allclose(third, kept_both[..., None] * p[2], atol=1e-6)


def test_equal_models_keep_everything():
    p = jnp.broadcast_to(jnp.array([0.25, 0.75]), (4, 3, 2))
    accepted, rest = speculative.verify(
        p, p[:, :2], jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]]), jnp.full((4, 2), 0.9999)
    )
    assert accepted.tolist() == [2] * 4
    np.testing.assert_array_equal(rest, p[:, 2])


@pytest.mark.parametrize("ahead, settings", [(1, {}), (3, {"temperature": 0.5}), (5, {})])
def test_texts_are_distributed_as_the_large_models(ahead, settings):
    """All 81 texts of four tokens. By chance alone each case fails for one seed in 10,000; the seed is fixed."""
    rows, texts = 20_000, list(itertools.product(range(3), repeat=4))
    out = speculative.generate(
        LARGE, VARIABLES, SMALL, VARIABLES, np.zeros((rows, 1), np.int32), KEY, length=4, ahead=ahead, **settings
    )
    codes = np.asarray(out.tokens)[:, 1:] @ np.array([27, 9, 3, 1])
    wanted = np.array([chance(text, **settings) for text in texts])
    assert wanted.sum() == pytest.approx(1)
    assert chisquare(np.bincount(codes, minlength=81), rows * wanted).pvalue > 1e-4
    assert (out.rounds >= 1).all() and (out.accepted <= out.tried).all()


def test_the_acceptance_rate_is_the_models_overlap():
    """Of one chain whose rows are equal: sum(min(p, q)) a token (Leviathan et al. 2023, theorem 3.5)."""
    p, q = [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]
    prompt = np.zeros((2_000, 1), np.int32)
    out = speculative.generate(Chain([p] * 3), VARIABLES, Chain([q] * 3), VARIABLES, prompt, KEY, length=20, ahead=3)
    tried, rate = int(out.tried.sum()), float(out.accepted.sum() / out.tried.sum())
    assert rate == pytest.approx(0.6, abs=4 * (0.6 * 0.4 / tried) ** 0.5)  # four standard errors: one seed in 15,000
    # Each round gives the kept tokens and one more; the first token comes with the prompt.
    assert int(out.accepted.sum() + out.rounds.sum()) >= 2_000 * 19


@pytest.fixture(scope="module")
def pair():
    models = [GPT(19, 40, layers, 2, 16, **more) for layers, more in ((2, {}), (1, {"positions": "rotary"}))]
    rng = np.random.default_rng(3)
    shapes = [jax.eval_shape(m.init, KEY, np.zeros((1, 1), np.int32)) for m in models]
    weights = [jax.tree.map(lambda a: np.float32(0.3 * rng.normal(size=a.shape)), s) for s in shapes]
    return models[0], weights[0], models[1], weights[1]


PROMPTS = [[3], [5, 1, 7, 2, 9], [4, 4, 4]]


def test_greedily_it_is_the_same_text(pair):
    settings = {"length": 24, "temperature": 0, "repetition_penalty": 1.2, "stop": [[7, 3], [11]]}
    plain = decoding.generate(*pair[:2], PROMPTS, KEY, **settings)
    out = speculative.generate(*pair, PROMPTS, KEY, ahead=4, **settings)
    np.testing.assert_array_equal(out.tokens, plain)
    assert len(np.unique(plain)) > 5
    own = speculative.generate(*pair[:2], *pair[:2], PROMPTS, KEY, ahead=4, **settings)
    np.testing.assert_array_equal(own.tokens, plain)
    np.testing.assert_array_equal(own.accepted, own.tried)  # its own draft is always right


def test_rows_streams_and_blocks_change_nothing(pair):
    keys = jax.random.split(KEY, 3)
    settings = {"length": 20, "ahead": 3, "top_p": 0.95, "temperature": 1.2}
    together = np.asarray(speculative.generate(*pair, PROMPTS, keys, **settings).tokens)
    alone = speculative.generate(*pair, PROMPTS[1:2], keys[1:2], **settings).tokens
    np.testing.assert_array_equal(together[1:2], alone)
    report = []

    def kept():
        report.append((yield from speculative.generate_stream(*pair, PROMPTS, keys, block=6, **settings)))

    columns = np.stack(list(kept()), 1)
    np.testing.assert_array_equal(report[0].tokens, together)
    assert int(report[0].rounds.min()) >= 5  # 19 tokens after the first, at most four at a time
    for row, prompt in enumerate(PROMPTS):
        np.testing.assert_array_equal(columns[row], together[row, len(prompt) : len(prompt) + 20])


def test_what_must_match_does(pair):
    alphabet = "abcdefghijklmnopqrs"
    pattern = "(ab)+[c-s]{2,4}"
    constraint = from_regex(pattern, [c.encode() for c in alphabet])
    out = speculative.generate(*pair, [[0]] * 64, KEY, length=12, ahead=3, constraint=constraint, pad=-1)
    said = ["".join(alphabet[i] for i in row[1:] if i >= 0) for row in np.asarray(out.tokens)]
    assert all(re.fullmatch(pattern, text) for text in said), said
    assert len(set(said)) > 9


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"ahead": 0}, "ahead=0: want at least 1 token to draft"),
        ({"length": 50}, "length=50 and ahead=4 make 54, and the models read 40"),
        ({"length": 0}, "length=0"),
        ({"temprature": 1}, "did you mean 'temperature'"),
    ],
)
def test_bad_arguments(pair, changes, words):
    for function in (speculative.generate, speculative.generate_stream):
        with pytest.raises(UserError, match=re.escape(words)):
            function(*pair, [[1]], KEY, **{"length": 5} | changes)


def test_models_of_different_tokens(pair):
    with pytest.raises(UserError, match="the draft has 3 tokens and the model 19"):
        speculative.generate(*pair[:2], SMALL, VARIABLES, [[1]], KEY, length=3)
