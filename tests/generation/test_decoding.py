import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from research.generation.decoding import generate, generate_stream, min_p, repetition_penalty, top_k, top_p
from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import LSTMLM
from research.util.errors import UserError

KEY = jax.random.key(0)
INF = np.inf


class Fixed:
    """A model of the decoding protocol with logits of its own: `logits(last token) -> f32[V]`."""

    max_length = 1000

    def __init__(self, vocab_size, logits):
        self.vocab_size, self.logits = vocab_size, logits

    def init_cache(self, batch, length, dtype):
        return {"index": jnp.zeros((), jnp.int32)}

    def apply(self, variables, tokens, cache):
        return jax.vmap(jax.vmap(self.logits))(tokens), {"index": cache["index"] + tokens.shape[1]}


VARIABLES = {"params": {"w": jnp.zeros(())}}
SUCCESSOR = Fixed(10, lambda last: 50.0 * jax.nn.one_hot((last + 1) % 10, 10))


@pytest.fixture(scope="module")
def gpt():
    model = GPT(vocab_size=19, num_layers=2, num_heads=2, width=16, max_length=12)
    shapes = jax.eval_shape(model.init, KEY, np.zeros((1, 1), np.int32))
    rng = np.random.default_rng(3)
    return model, jax.tree.map(lambda a: np.float32(0.5 * rng.normal(size=a.shape)), shapes)


def naive(model, variables, prompt, length):
    """Greedy, uncached, with the documented sliding; the context is padded to one shape."""
    apply = jax.jit(lambda tokens: model.apply(variables, tokens))
    tokens = np.asarray(prompt)
    begin = max(0, tokens.shape[1] - model.max_length)
    for _ in range(length):
        if tokens.shape[1] - begin > model.max_length:
            begin = tokens.shape[1] - model.max_length // 2
        context = np.zeros((len(tokens), model.max_length), np.int32)
        held = tokens.shape[1] - begin
        context[:, :held] = tokens[:, begin:]
        chosen = np.asarray(apply(context))[:, held - 1].argmax(-1)
        tokens = np.concatenate([tokens, chosen[:, None]], 1)
    return tokens


def test_processors_by_hand():
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))

    def kept(x):
        return np.isfinite(x)[0].tolist()

    assert kept(top_k(logits, 2)) == [False, True, False, True]
    assert kept(top_k(logits, 9)) == [True] * 4
    assert kept(top_p(logits, 0.39)) == [False, True, False, False]  # 0.4 reaches it alone
    assert kept(top_p(logits, 0.69)) == [False, True, False, True]  # 0.4 + 0.3
    assert kept(top_p(logits, 0.71)) == [False, True, True, True]
    assert kept(top_p(logits, 1.0)) == [True] * 4
    assert kept(min_p(logits, 0.6)) == [False, True, False, True]  # below 0.6 * 0.4 = 0.24
    assert kept(top_p(jnp.zeros((1, 4)), 0.5)) == [True, True, False, False]  # equals: by index
    seen = jnp.array([[True, True, False, False]])
    penalised = repetition_penalty(jnp.array([[3.0, -3.0, 3.0, -3.0]]), seen, 1.5)
    np.testing.assert_allclose(penalised, [[2.0, -4.5, 3.0, -3.0]])


@pytest.mark.parity
def test_processors_equal_transformers():
    torch = pytest.importorskip("torch")
    hf = pytest.importorskip("transformers.generation.logits_process")
    rng = np.random.default_rng(0)
    logits, ids = np.float32(3 * rng.normal(size=(8, 50))), rng.integers(0, 50, (8, 20))
    seen = np.zeros((8, 50), bool)
    np.put_along_axis(seen, ids, True, axis=1)
    pairs = [
        (top_k(logits, 7), hf.TopKLogitsWarper(7)),
        (top_p(logits, 0.8), hf.TopPLogitsWarper(0.8)),
        (min_p(logits, 0.1), hf.MinPLogitsWarper(0.1)),
        (repetition_penalty(logits, seen, 1.3), hf.RepetitionPenaltyLogitsProcessor(1.3)),
    ]
    for got, process in pairs:
        want = process(torch.tensor(ids), torch.tensor(logits)).numpy()
        assert not np.array_equal(want, logits)
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
    "settings, weights",
    [
        ({"top_p": 0.8}, [8, 4, 2, 0, 0]),  # 8 + 4 + 2 of 16 is the first mass past 0.8
        ({"temperature": 0.5}, [64, 16, 4, 1, 1]),  # p^2
        ({"top_k": 2, "temperature": 0.5}, [64, 16, 0, 0, 0]),
        ({"min_p": 0.25}, [8, 4, 2, 0, 0]),
        # The prompt's token 0 goes from log 8 > 0 to its half, sqrt(8) in weight.
        ({"repetition_penalty": 2.0}, [8**0.5, 4, 2, 1, 1]),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_samples_follow_the_distribution(settings, weights):
    model = Fixed(5, lambda last: jnp.log(jnp.array([8.0, 4, 2, 1, 1])))
    prompt = np.zeros((8000, 1), np.int32)
    drawn = np.asarray(generate(model, VARIABLES, prompt, KEY, length=1, **settings))[:, 1]
    counts, weights = np.bincount(drawn, minlength=5), np.array(weights)
    assert not counts[weights == 0].any()
    kept = weights > 0
    assert chisquare(counts[kept], 8000 * weights[kept] / weights.sum()).pvalue > 1e-3


@pytest.mark.parametrize("length, prompt", [(8, 4), (40, 4), (9, 20)], ids=["fits", "slides", "long"])
def test_greedy_equals_the_uncached_loop(gpt, length, prompt):
    tokens = np.random.default_rng(1).integers(0, 19, (3, prompt))
    got = generate(*gpt, tokens, KEY, length=length, temperature=0)
    assert got.dtype == jnp.int32 and got.shape == (3, prompt + length)
    np.testing.assert_array_equal(got, naive(*gpt, tokens, length))


def test_a_window_of_one_token(gpt):
    model, variables = gpt[0].clone(max_length=1), jax.tree.map(np.copy, gpt[1])
    table = variables["params"]["position"]
    table["embedding"] = table["embedding"][:1]
    got = generate(model, variables, [[3]], KEY, length=6, temperature=0)[0]
    follows = np.asarray(model.apply(variables, jnp.arange(19)[:, None]))[:, 0].argmax(-1)
    np.testing.assert_array_equal(got[1:], follows[got[:-1]])


@pytest.mark.parametrize(
    "attributes, settings",
    [
        ({}, {"top_p": 0.9}),
        (
            {"scan": True, "positions": "rotary", "kv_heads": 1},
            {"repetition_penalty": 1.5, "min_p": 0.1},
        ),
    ],
)
def test_stream_equals_generate(attributes, settings):
    model = GPT(19, 12, 2, 2, 16, **attributes)
    prompt = np.random.default_rng(1).integers(0, 19, (2, 3))
    variables = jax.jit(model.init)(KEY, prompt)
    whole = generate(model, variables, prompt, KEY, length=30, **settings)
    assert len(np.unique(whole)) > 3
    for block in (1, 7, 99):
        columns = generate_stream(model, variables, prompt, KEY, length=30, block=block, **settings)
        np.testing.assert_array_equal(np.stack(list(columns), 1), whole[:, 3:])


def test_stop_sequences_by_hand():
    prompt = [[5, 1], [6, 7], [1, 6], [9, 8]]
    kwargs = {"length": 7, "temperature": 0, "pad": 0, "stop": [[6, 7], [3, 4, 5], [2] * 9]}
    want = [
        [2, 3, 4, 5, 0, 0, 0],  # the second sequence; padded behind it
        [8, 9, 0, 1, 2, 3, 4],  # a sequence in the prompt stops nothing
        [7, 8, 9, 0, 1, 2, 3],  # nor one that begins in it
        [9, 0, 1, 2, 3, 4, 5],
    ]
    got = generate(SUCCESSOR, VARIABLES, prompt, KEY, **kwargs)
    np.testing.assert_array_equal(got, np.concatenate([prompt, want], 1))
    columns = list(generate_stream(SUCCESSOR, VARIABLES, prompt[:1], KEY, **kwargs))
    np.testing.assert_array_equal(np.stack(columns, 1), [[2, 3, 4, 5]])  # and no padding
    got = generate(SUCCESSOR, VARIABLES, [[3]], KEY, **kwargs | {"stop": [[4]], "pad": 7})
    assert got.tolist() == [[3, 4, 7, 7, 7, 7, 7, 7]]


def test_rows_are_independent(gpt):
    prompt = np.random.default_rng(1).integers(0, 19, (3, 4))
    other = prompt.copy()
    other[1] = (other[1] + 1) % 19
    a, b = (np.asarray(generate(*gpt, x, KEY, length=8)) for x in (prompt, other))
    np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])
    assert (a[1, 4:] != b[1, 4:]).any()
    same = generate(*gpt, prompt[[0, 0, 0]], KEY, length=8)
    assert (same[0] != same[1]).any()  # equal prompts are drawn from apart
    keys = jax.random.split(KEY, 3)  # a key a row: alone, a row says what it says in company
    three = generate(*gpt, prompt, keys, length=8)
    one = generate(*gpt, prompt[1:2], keys[1:2], length=8)
    np.testing.assert_array_equal(three[1:2], one)


RAGGED = [[3], [5, 1, 7, 2], list(range(14)), [4] * 8]


@pytest.mark.parametrize(
    "attributes, settings",
    [
        ({}, {"temperature": 0}),
        ({}, {"top_p": 0.9, "repetition_penalty": 1.3}),
        ({"positions": "rotary", "kv_heads": 1, "scan": True}, {"temperature": 1.5}),
    ],
    ids=["greedy", "sampled", "llama"],
)
def test_a_row_among_longer_ones_is_what_it_is_alone(attributes, settings):
    """With a window of 12: one prompt is longer, and every row outgrows it at a step of its own."""
    model = GPT(19, 12, 2, 2, 16, **attributes)
    shapes = jax.eval_shape(model.init, KEY, np.zeros((1, 1), np.int32))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda a: np.float32(0.5 * rng.normal(size=a.shape)), shapes)
    keys = jax.random.split(KEY, len(RAGGED))
    together = np.asarray(generate(model, variables, RAGGED, keys, length=20, pad=-1, **settings))
    assert together.shape == (4, 14 + 20)
    for row in (0, 2):
        prompt = RAGGED[row]
        alone = generate(model, variables, [prompt], keys[row : row + 1], length=20, **settings)[0]
        np.testing.assert_array_equal(together[row, : len(prompt) + 20], alone)
        assert (together[row, len(prompt) + 20 :] == -1).all()
        if settings.get("temperature") == 0:
            np.testing.assert_array_equal(alone[None], naive(model, variables, [prompt], 20))


def test_prompts_as_lists_or_with_lengths(gpt):
    filled = np.array([row + [11] * (14 - len(row)) for row in RAGGED])
    arguments = {"length": 6, "temperature": 0.8, "stop": [[1], [2, 3]]}
    lists = generate(*gpt, RAGGED, KEY, **arguments)
    np.testing.assert_array_equal(lists, generate(*gpt, filled, KEY, lengths=[1, 4, 14, 8], **arguments))
    columns = list(generate_stream(*gpt, filled, KEY, lengths=[1, 4, 14, 8], block=4, **arguments))
    for row, held in enumerate([1, 4, 14, 8]):
        np.testing.assert_array_equal([c[row] for c in columns], np.asarray(lists)[row, held : held + len(columns)])


def test_stops_of_rows_of_different_lengths():
    got = generate(SUCCESSOR, VARIABLES, [[5, 1], [6], [9, 8, 2]], KEY, length=4, temperature=0, stop=[[3, 4], [8]])
    assert got.tolist() == [[5, 1, 2, 3, 4, 0, 0], [6, 7, 8, 0, 0, 0, 0], [9, 8, 2, 3, 4, 0, 0]]


def test_a_model_that_cannot_forget_takes_one_length():
    model = LSTMLM(vocab_size=10, num_layers=1, width=8)
    variables = jax.jit(model.init)(KEY, np.zeros((1, 1), np.int32))
    with pytest.raises(UserError, match="prompts of different lengths: LSTMLM cannot forget padding"):
        generate(model, variables, [[1], [2, 3]], KEY, length=2)
    assert generate(model, variables, [[1, 4], [2, 3]], KEY, length=2).shape == (2, 4)


def test_new_numbers_compile_nothing(gpt):
    prompt = np.zeros((1, 2), np.int32)
    generate(*gpt, prompt, KEY, length=5, temperature=0.7, top_k=3, stop=[[1, 2]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GPT, "apply", None)  # tracing anew would call it
        generate(*gpt, prompt, KEY, length=5, temperature=1.3, top_k=5, stop=[[3, 4]])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"length": 0}, "length=0: want at least 1"),
        ({"prompt": [[]]}, "prompt of shape"),
        ({"prompt": [[1], []]}, "an empty row"),
        ({"prompt": [[1], [2, 19]]}, "outside the vocabulary, 0..18"),
        ({"lengths": [3]}, "lengths=.3.: want one for each of 1 prompts, within it"),
        ({"lengths": [1, 2]}, "want one for each of 1"),
        ({"prompt": [1, 2]}, "prompt of shape"),
        ({"prompt": [[19]]}, "outside the vocabulary, 0..18"),
        ({"temperature": -1.0}, "temperature=-1.0: want at least 0"),
        ({"temperature": INF}, "temperature=inf: want at least 0 and finite"),
        ({"temperature": np.nan}, "temperature=nan: want at least 0 and finite"),
        ({"repetition_penalty": INF}, "repetition_penalty=inf: want above 0 and finite"),
        ({"repetition_penalty": np.nan}, "repetition_penalty=nan"),
        ({"top_p": np.nan}, "top_p=nan: want above 0 and at most 1"),
        ({"min_p": np.nan}, "min_p=nan"),
        ({"top_k": 0}, "top_k=0: want a whole number, at least 1"),
        ({"top_k": 2.5}, "top_k=2.5"),
        ({"top_p": 0.0}, "top_p=0.0: want above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"min_p": 2.0}, "min_p=2.0"),
        ({"repetition_penalty": 0}, "repetition_penalty=0: want above 0"),
        ({"temprature": 1.0}, "did you mean 'temperature'"),
        ({"stop": [[]]}, "empty sequence"),
        ({"key": jax.random.split(KEY, 2)}, "one for each of 1 rows"),
    ],
)
def test_bad_arguments(gpt, changes, words):
    arguments = {"prompt": [[1, 2]], "key": KEY, "length": 3} | changes
    for function in (generate, generate_stream):  # the stream at the call, before its first token
        with pytest.raises(UserError, match=words) as caught:
            function(*gpt, **arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="block=0"):
        generate_stream(*gpt, [[1]], KEY, length=1, block=0)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 1.0}])
def test_room_changes_shapes_alone(gpt, settings):
    """Prompts of 2 and 3 tokens padded to 5: the same text, in a compiled loop for both."""
    model, variables = gpt
    for prompt in ([3, 1], [3, 1, 4]):
        plain = generate(model, variables, [prompt], KEY, length=6, **settings)
        padded = generate(model, variables, [prompt], KEY, length=6, room=5, **settings)
        assert padded.shape == (1, 11) and padded[0, : len(prompt) + 6].tolist() == plain[0].tolist()
        streamed = generate_stream(model, variables, [prompt], KEY, length=6, room=5, **settings)
        assert [int(column[0]) for column in streamed] == plain[0, len(prompt) :].tolist()
