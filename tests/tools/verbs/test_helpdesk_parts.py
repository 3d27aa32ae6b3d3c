"""Calls of a small model, with a schema and without, and their probability; the unhappy at a threshold, counted by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.customer_service import conversation
from experiments.language_model import train
from research.core import config
from research.data.text import chat, service_messages
from research.data.text.conversations import message
from research.util.errors import UserError
from tools.verbs import ask
from tools.verbs.helpdesk_parts import Caller, Errors, Mood

TEXTS = ["Where is A-1042?", "Hello.", "It is Q-0001, I think."]


@pytest.fixture(scope="module")
def caller():
    """A model whose parameters are random."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_messages, "SIZES", {"train": 60, "valid": 12, "test": 12})
        small = ["model.num_layers=1", "model.num_heads=2", "model.width=16", "num_steps=200"]
        e = train.build(config.load("language_model/service_calls", small))
        state = SimpleNamespace(variables={"params": jax.jit(e.init_fn)(jax.random.key(0))["params"]})
        patch.setattr(ask, "load", lambda run, checkpoint, family: (e, state, 1))
        return Caller("run"), e, state


def test_within_the_schema_every_reply_is_a_call(caller):
    calls = caller[0].calls(TEXTS, caller[0].constraint())
    assert len(calls) == 3 and all(conversation.parse(call) for call in calls)
    assert not any(conversation.parse(call) for call in caller[0].calls(TEXTS))


def test_an_order_is_one_of_the_message(caller):
    """Even of a model that has learnt nothing; under the schema alone its order is another."""
    orders = [conversation.parse(caller[0].of_own_numbers(text)).get("order") for text in TEXTS]
    assert orders == ["A-1042", None, "Q-0001"]
    (call,) = caller[0].calls(TEXTS[:1], caller[0].constraint())
    assert conversation.parse(call)["order"] not in TEXTS[0].split()


def test_a_call_does_not_depend_on_its_batch(caller):
    constraint = caller[0].constraint()
    assert [caller[0].calls([text], constraint)[0] for text in TEXTS] == caller[0].calls(TEXTS, constraint)


def test_the_probability_is_of_the_call_and_its_end(caller):
    caller, e, state = caller
    call, probability = caller(TEXTS[0])
    messages = [message("user", TEXTS[0]), message("assistant", call)]
    tokens, mask = chat.encode_messages(messages, e.data.template, e.data.tokenizer)
    logits = e.model.apply(state.variables, jnp.asarray(tokens)[None])[0]
    log_p = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]
    assert np.log(probability) == pytest.approx(log_p[mask[1:] > 0].sum(), rel=1e-4)


def test_a_caller_learnt_replies(monkeypatch):
    e = SimpleNamespace(data=None, cfg=SimpleNamespace(name="language_model/tiny"))
    monkeypatch.setattr(ask, "load", lambda run, checkpoint, family: (e, None, 1))
    with pytest.raises(UserError, match="run is a run of language_model/tiny; want a gpt of conversations"):
        Caller("run")


def test_errors_by_hand():
    mood = object.__new__(Mood)
    mood.threshold = 0.5
    mood._scored = {"test": (np.array([True, True, True, False, False]), np.array([0.9, 0.5, 0.4, 0.5, 0.1]))}
    assert mood.errors() == {"test": Errors(missed=1, unhappy=3, alarms=1, others=2)}
    assert str(mood.errors()["test"]).startswith(
        "0.333 (1 of 3, 0.061 to 0.792) of the unhappy missed, 0.500 (1 of 2, "
    )
