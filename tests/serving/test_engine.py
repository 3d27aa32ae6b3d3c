import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from research.generation import constraints, decoding
from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import LSTMLM
from research.serving.decoder import from_model
from research.serving.engine import Busy, Closed, Engine
from research.serving.jobs import CANCELLED, FAILED, LENGTH, STOP, Finished, Request
from research.util.errors import UserError

V, LENGTH_OF_SLOT, SLOTS = 13, 24, 8
MODEL = GPT(vocab_size=V, max_length=LENGTH_OF_SLOT, num_layers=1, num_heads=2, width=16)


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.float32(0.5 * rng.normal(size=x.shape)), shapes)


@pytest.fixture(scope="module")
def decoder(variables):
    return from_model(MODEL, variables, chunk=4)


class Recorded:
    """A request's answer: its tokens, the bits of the logits that each was drawn from, and why it ended."""

    def __init__(self, engine, request):
        self.request, self.tokens, self.bits, self.reasons = request, [], [], []
        self.job = engine.submit(request, self.take)

    def take(self, event):
        if isinstance(event, Finished):
            self.reasons.append(event.reason)
        else:
            self.tokens.append(event.id)
            self.bits.append((event.logprob, event.top.tobytes(), event.top_logprobs.tobytes()))


def run(engine, *requests):
    answers = [Recorded(engine, request) for request in requests]
    while engine.step():
        pass
    return answers


def request(rng, **changes):
    prompt = rng.integers(0, V, rng.integers(1, 15)).astype(np.int32)
    sampling = [{"temperature": 0.0}, {"top_k": 5}, {"temperature": 0.8, "top_p": 0.9}, {"min_p": 0.05}][
        rng.integers(4)
    ]
    if rng.integers(2):
        sampling = {**sampling, "repetition_penalty": 1.3}
    key = jax.random.key(int(rng.integers(1000)))
    made = Request(prompt, int(rng.integers(1, LENGTH_OF_SLOT - len(prompt) + 1)), key, sampling)
    return dataclasses.replace(made, **changes)


def schedules(decoder, count, seed):
    """Requests that come, are cancelled and leave at random, against each of them alone in a fresh engine's first slot."""
    rng = np.random.default_rng(seed)
    requests = [request(rng) for _ in range(24)]
    engine = Engine(decoder, SLOTS)
    alone = [run(Engine(decoder, SLOTS), each)[0] for each in requests]
    assert len({answer.bits[0] for answer in alone}) > 20  # different requests, different bits
    for _ in range(count):
        answers, compared = [], 0
        for number in rng.integers(len(requests), size=rng.integers(2, 14)):
            answers.append((number, Recorded(engine, requests[number])))
            for _ in range(rng.integers(4)):
                engine.step()
            if rng.random() < 0.2:
                answers[rng.integers(len(answers))][1].job.cancel()
        while engine.step():
            pass
        for number, answer in answers:
            at = len(answer.tokens)
            assert answer.tokens == alone[number].tokens[:at]
            assert answer.bits == alone[number].bits[:at]
            if answer.reasons == [LENGTH]:
                assert at == requests[number].length
                compared += 1
            else:
                assert answer.reasons == [CANCELLED]
        assert compared or len(answers) < 6
    assert engine.reused > count  # some began with what a slot held


def test_a_requests_logits_are_the_same_bits_alone_and_in_200_random_schedules(decoder):
    schedules(decoder, 200, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_a_requests_logits_are_the_same_bits_in_1000_random_schedules(decoder, seed):
    schedules(decoder, 100, seed)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0, "repetition_penalty": 1.5},
        {},
        {"temperature": 0.9, "top_k": 9, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2},
    ],
)
def test_tokens_are_those_of_generate(decoder, variables, sampling):
    """Its logits differ in the last bits, being of another program: the draws from them do not."""
    prompt, key = np.array([1, 5, 2, 8, 3, 3], np.int32), jax.random.fold_in(jax.random.key(7), 0)
    expected = decoding.generate(MODEL, variables, prompt[None], key[None], length=15, **sampling)
    (answer,) = run(Engine(decoder, SLOTS), Request(prompt, 15, key, sampling))
    assert answer.tokens == expected[0, 6:].tolist()


def test_a_recurrent_model_reads_its_prompt_in_chunks_too():
    model = LSTMLM(vocab_size=V, num_layers=1, width=16)
    variables = model.init(jax.random.key(2), jnp.zeros((1, 1), jnp.int32))
    prompt, key = np.array([1, 5, 2, 8, 3, 3], np.int32), jax.random.key(7)
    expected = decoding.generate(model, variables, prompt[None], key[None], length=9, temperature=0.5)
    engine = Engine(from_model(model, variables, chunk=4), 2)
    answers = run(engine, Request(prompt[::-1], 4, key), Request(prompt, 9, key, {"temperature": 0.5}))
    assert answers[1].tokens == expected[0, 6:].tolist()


def test_stop_ends_after_its_sequence_and_frees_the_slot(decoder):
    engine, rng = Engine(decoder, 2), np.random.default_rng(0)
    (whole,) = run(engine, request(rng, length=8, prompt=np.array([1], np.int32)))
    stop = [whole.tokens[2:4]]
    first = next(i for i in range(1, 8) if whole.tokens[i - 1 : i + 1] == stop[0])
    (answer,) = run(engine, dataclasses.replace(whole.request, stop=stop))
    assert (answer.tokens, answer.reasons, engine.occupied) == (whole.tokens[: first + 1], [STOP], 0)


def test_constrained_text_matches_and_is_that_of_generate(decoder, variables):
    constraint = constraints.from_regex("(ab|c)+d", [*(bytes([c]) for c in b"abcdefghijkl"), b""])
    prompt, key = np.array([1, 5], np.int32), jax.random.key(3)
    expected = decoding.generate(MODEL, variables, prompt[None], key[None], length=9, constraint=constraint)
    one = Request(prompt, 9, key, constraint=constraint)
    answers = run(Engine(decoder, 3), one, request(np.random.default_rng(0)), one)
    assert answers[0].tokens == answers[2].tokens == expected[0, 2 : 2 + len(answers[0].tokens)].tolist()
    text = "".join("abcdefghijkl"[i] for i in answers[0].tokens)
    assert text.replace("ab", "").replace("c", "") == "d"
    assert answers[0].reasons in ([STOP], [LENGTH])


def counted(engine):
    """The names of the engine's programs, in the order in which it will have called them."""
    calls = []
    programs = {name: getattr(engine.decoder, name) for name in ("prefill", "decode")}
    noting = {name: lambda *args, name=name: (calls.append(name), programs[name](*args))[1] for name in programs}
    engine.decoder = engine.decoder._replace(**noting)
    return calls


def test_a_long_prompt_delays_others_by_one_chunk_a_token(decoder):
    engine = Engine(decoder, 2)
    calls = counted(engine)
    short = Recorded(engine, Request(np.array([1], np.int32), 20, jax.random.key(0)))
    engine.step()
    Recorded(engine, Request(np.arange(12, dtype=np.int32), 1, jax.random.key(0)))
    while engine.step():
        pass
    assert calls[:8] == ["prefill", *["prefill", "decode"] * 3, "decode"]
    assert len(short.tokens) == 20


def test_many_slots_read_a_chunk_for_every_sixteen(decoder):
    prompt, key = np.array([1, 5, 2], np.int32), jax.random.key(3)
    asked = [Request(prompt + i, 4, key) for i in range(6)]
    alone = [run(Engine(decoder, 32), each)[0].bits for each in asked]
    engine = Engine(decoder, 32)
    calls = counted(engine)
    answers = run(engine, *asked)
    assert calls[:9] == ["prefill", "prefill", *["prefill", "prefill", "decode"] * 2, "decode"]
    assert [answer.bits for answer in answers] == alone


def test_what_cannot_be_served_is_refused(decoder):
    engine, key = Engine(decoder, 1, queue=1), jax.random.key(0)
    for bad, message in (
        (Request(np.zeros(0, np.int32), 1, key), "one token or more"),
        (Request(np.array([V], np.int32), 1, key), "each in 0..12"),
        (Request(np.array([1], np.int32), 0, key), "at least 1 token"),
        (Request(np.array([1], np.int32), 24, key), "more than the context of 24"),
        (Request(np.array([1], np.int32), 1, key, {"top_p": 2.0}), "top_p=2.0: want above 0 and at most 1"),
    ):
        with pytest.raises(UserError, match=message):
            engine.submit(bad, print)
    fine = Request(np.array([1], np.int32), 3, key)
    engine.submit(fine, lambda _: None)
    with pytest.raises(Busy):
        engine.submit(fine, print)
    engine.close()
    with pytest.raises(Closed):
        engine.submit(fine, print)
    for options in ({"slots": 0}, {"queue": 0}, {"length": 3}, {"length": 25}):
        with pytest.raises(UserError, match="="):
            Engine(decoder, **options)


def test_thread_serves_drains_and_cancels(decoder):
    engine, key = Engine(decoder, 2), jax.random.key(0)
    engine.start()
    done = threading.Event()
    answer = Recorded(engine, Request(np.array([1], np.int32), 20, key))
    engine.submit(Request(np.array([2], np.int32), 22, key), lambda e: done.set() if isinstance(e, Finished) else None)
    assert done.wait(30)
    last = Recorded(engine, Request(np.array([1], np.int32), 20, key))
    engine.close(seconds=30)
    assert answer.tokens == last.tokens and len(last.tokens) == 20
    assert engine.occupied == engine.waiting == 0


def test_a_failing_device_is_told_to_those_it_served_and_the_next_are_served(decoder, caplog):
    engine, failed = Engine(decoder, 2), threading.Event()
    engine.start()

    def fail(*_):
        raise RuntimeError("out of memory")

    engine.decoder = decoder._replace(prefill=fail)
    one, reasons = Request(np.array([1], np.int32), 3, jax.random.key(0)), []
    engine.submit(one, lambda event: (reasons.append(event.reason), failed.set()))
    assert failed.wait(30) and reasons == [FAILED]
    engine.decoder = decoder
    answer = Recorded(engine, one)
    engine.close(seconds=30)
    assert answer.reasons == [LENGTH] and "a step of the engine failed" in caplog.text


class Slots(RuleBasedStateMachine):
    """Whatever comes, is cancelled or waits: every job ends once, and every slot is free in the end."""

    decoder = None
    jobs = Bundle("jobs")

    def __init__(self):
        super().__init__()
        self.engine, self.answers = Engine(Slots.decoder, 3, queue=4), []

    @rule(target=jobs, length=st.integers(1, 6), prompt=st.integers(1, 9))
    def submit(self, length, prompt):
        one = Request(np.arange(prompt, dtype=np.int32), length, jax.random.key(0))
        try:
            self.answers.append(Recorded(self.engine, one))
        except Busy:
            assert self.engine.waiting == 4
            return None
        return self.answers[-1]

    @rule(answer=jobs)
    def cancel(self, answer):
        if answer is not None:
            answer.job.cancel()

    @rule()
    def step(self):
        self.engine.step()

    @invariant()
    def every_job_is_in_one_place(self):
        open_ones = sum(not answer.reasons for answer in self.answers)
        assert open_ones == self.engine.occupied + self.engine.waiting
        assert all(len(answer.reasons) <= 1 for answer in self.answers)

    def teardown(self):
        for _ in range(1_000):  # and not for ever, where a step has failed
            if not self.engine.step():
                break
        assert self.engine.occupied == self.engine.waiting == 0
        for answer in self.answers:
            assert answer.reasons in ([LENGTH], [CANCELLED])
            assert answer.reasons == [CANCELLED] or len(answer.tokens) == answer.request.length


def test_slots_never_leak(decoder):
    Slots.decoder = decoder
    case = Slots.TestCase()
    case.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, database=None, derandomize=True)
    case.runTest()
