import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.generation import beam, decoding
from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import LSTMLM
from research.util.errors import UserError

V, EOS = 4, 1


def chain(seed, B=3):
    """Models whose next token depends on all before it: logits f32[B, code of the prefix, V], prefixes in base V."""
    tables = np.random.default_rng(seed).normal(0, 2, (B, V**5, V)).astype(np.float32)

    def step(tokens, cache):
        code = (cache["code"] * V + tokens) % V**5
        return jnp.asarray(tables)[cache["row"], code], {**cache, "code": code}

    return tables, step, {"code": jnp.zeros(B, jnp.int32), "row": jnp.arange(B), "scalar": jnp.int32(0)}


def likelihood(table, first, tokens):
    code, total = first % V**5, 0.0
    for token in tokens:
        row = table[code].astype(np.float64)
        total += row[token] - np.log(np.exp(row - row.max()).sum()) - row.max()
        code = (code * V + token) % V**5
    return total


def every(length, eos, least=0, banned=()):
    """All hypotheses: sequences that end with eos within `length`, or all of `length` tokens."""
    kept = [t for t in range(V) if t not in banned and t != eos]
    if eos is None:
        return list(itertools.product(kept, repeat=length))
    return [(*head, eos) for n in range(least, length) for head in itertools.product(kept, repeat=n)]


PENALTY = {"gnmt": lambda n, a: ((5 + n) / 6) ** a, "power": lambda n, a: n**a}


@pytest.mark.parametrize(
    "seed, length, eos, penalty, alpha, options",
    [
        (0, 4, EOS, "power", 1.0, {}),
        (1, 4, EOS, "gnmt", 0.6, {}),
        (2, 4, EOS, "power", 0.0, {}),
        (3, 4, EOS, "power", -0.7, {}),
        (4, 3, EOS, "gnmt", 2.0, {"min_length": 1, "banned": (0,)}),
        (5, 3, None, "power", 1.0, {}),
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_a_wide_beam_is_enumeration(seed, length, eos, penalty, alpha, options, early):
    tables, step, cache = chain(seed)
    first = jnp.array([0, 2, 3])
    all_of_them = every(length, eos, options.get("min_length", 0), options.get("banned", ()))
    width = len(all_of_them)
    run = partial(beam.search, step, length=length, beam=width, eos=eos, penalty=penalty, alpha=alpha, early=early)
    found = jax.jit(partial(run, **options))(cache, first)
    for b in range(3):
        want = sorted(
            ((likelihood(tables[b], int(first[b]), t) / PENALTY[penalty](len(t), alpha), t) for t in all_of_them),
            reverse=True,
        )
        np.testing.assert_allclose(found.scores[b], [s for s, _ in want], rtol=1e-4, atol=1e-5)
        for w in range(5):
            n = int(found.lengths[b, w])
            assert tuple(found.tokens[b, w, :n].tolist()) == want[w][1]
            assert (found.tokens[b, w, n:] == 0).all()


def test_beams_by_hand():
    """W = 2: greedy's beginning, 2, is not that of the best whole, 3 2 1 with 0.4 x 0.9 = 0.36."""
    p = {0: [0, 0, 0.6, 0.4], 2: [0, 0.55, 0.25, 0.2], 3: [0, 0.1, 0.9, 0], 22: [0, 1, 0, 0], 32: [0, 1, 0, 0]}
    rows = {0: 0, 2: 1, 3: 2}
    table = jnp.log(jnp.array([p[0], p[2], p[3], p[22]]) + 1e-12)

    def step(tokens, cache):
        where = jnp.where(cache["n"] == 2, 3, jnp.array([rows.get(t, 0) for t in range(4)])[tokens])
        return table[where], {"n": cache["n"] + 1}

    run = partial(beam.search, step, {"n": jnp.zeros(1, jnp.int32)}, jnp.array([0]), length=4, eos=1, alpha=0.0)
    greedy, two = run(beam=1), run(beam=2, early=False)
    assert greedy.tokens[0, 0].tolist() == [2, 1, 0, 0] and two.tokens[0, 0].tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(np.exp(greedy.scores[0]), [0.33], rtol=1e-4)  # 0.6 x 0.55
    np.testing.assert_allclose(np.exp(two.scores[0]), [0.36, 0.33], rtol=1e-4)


def test_early_takes_the_first_to_end_and_late_the_best():
    """One beam: 1 (the end) at once with 0.6, or 2 and then the end surely, which a strong penalty prefers."""
    table = jnp.log(jnp.array([[0, 0.6, 0.4, 0], [0, 1, 0, 0]]) + 1e-12)

    def step(tokens, cache):
        return table[jnp.where(tokens == 2, 1, 0)], cache

    run = partial(beam.search, step, jnp.zeros(1), jnp.array([0]), length=5, eos=1, beam=1, alpha=2.0)
    assert run(early=True).lengths.tolist() == [[1]]
    late = run(early=False)  # log 0.4 / 4 = -0.229, better than log 0.6 = -0.511
    assert late.tokens[0, 0].tolist() == [2, 1, 0, 0, 0]
    np.testing.assert_allclose(late.scores, [[np.log(0.4) / 4]], rtol=1e-4)


def test_a_sentence_is_the_same_in_any_batch():
    _, step, cache = chain(7)
    whole = beam.search(step, cache, jnp.array([0, 2, 3]), length=5, eos=EOS, beam=3)
    one = beam.search(step, {**cache, "row": jnp.array([1])} | {"code": jnp.zeros(1, jnp.int32)}, jnp.array([2]),
                      length=5, eos=EOS, beam=3)  # fmt: skip
    for a, b in zip(whole, one, strict=True):
        np.testing.assert_allclose(a[1:2], b, rtol=1e-6)


MODELS = {
    "gpt": GPT(vocab_size=11, num_layers=2, num_heads=2, width=16, max_length=16),
    "scanned": GPT(vocab_size=11, num_layers=2, num_heads=2, width=16, max_length=16, scan=True),
    "lstm": LSTMLM(vocab_size=11, num_layers=2, width=16),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_beam_of_a_language_model_is_greedy_decoding(name):
    model = MODELS[name]
    prompt = np.random.default_rng(0).integers(0, 11, (3, 4))
    variables = jax.tree.map(lambda x: 8 * x, jax.jit(model.init)(jax.random.key(0), prompt))
    want = decoding.generate(model, variables, prompt, jax.random.key(0), length=6, temperature=0)[:, 4:]
    one, four = (beam.continued(model, variables, prompt, length=6, beam=n) for n in (1, 4))
    np.testing.assert_array_equal(one.tokens[:, 0], want)
    assert (four.scores[:, 0] >= one.scores[:, 0] - 1e-6).all() and (four.lengths == 6).all()
    # Each score is the mean log-likelihood that the model gives the whole line, read at once.
    logits = jax.jit(model.apply)(variables, np.concatenate([prompt[:1].repeat(4, 0), four.tokens[0]], 1))
    logp = jax.nn.log_softmax(logits)[:, 3:-1]
    each = np.take_along_axis(np.asarray(logp), np.asarray(four.tokens[0])[..., None], 2)[..., 0]
    np.testing.assert_allclose(four.scores[0], each.mean(1), rtol=1e-4, atol=1e-5)


def test_a_prompt_that_is_too_long():
    model = MODELS["gpt"]
    with pytest.raises(UserError, match="12 tokens and 6 more want 17: max_length=16"):
        beam.continued(model, {"params": {}}, np.zeros((1, 12), int), length=6, beam=2)


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"beam": 0}, "beam=0: want at least 1"),
        ({"length": 0}, "length=0: want at least 1"),
        ({"penalty": "gnnt"}, "did you mean 'gnmt'"),
        ({"min_length": 4, "eos": 1}, "min_length=4 leaves no room"),
    ],
)
def test_bad_settings(kwargs, words):
    with pytest.raises(UserError, match=words):
        beam.search(lambda t, c: (t, c), {}, jnp.zeros(1, jnp.int32), **{"length": 4} | kwargs)
