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
    calls = caller[0].calls(TEXTS)
    assert len(calls) == 3 and all(conversation.parse(call) for call in calls)
    assert not any(conversation.parse(call) for call in caller[0].calls(TEXTS, constrained=False))


def test_a_call_does_not_depend_on_its_batch(caller):
    assert [caller[0].calls([text])[0] for text in TEXTS] == caller[0].calls(TEXTS)


def test_the_probability_is_of_the_call_and_its_end(caller):
    caller, e, state = caller
    call, probability = caller(TEXTS[0])
    messages = [message("user", TEXTS[0]), message("assistant", call)]
    tokens, mask = chat.encode_messages(messages, e.data.template, e.data.tokenizer)
    logits = e.model.apply(state.variables, jnp.asarray(tokens)[None])[0]
    log_p = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]
    assert np.log(probability) == pytest.approx(log_p[mask[1:] > 0].sum(), rel=1e-4)


def test_errors_by_hand():
    mood = object.__new__(Mood)
    mood.threshold = 0.5
    mood._scored = {"test": (np.array([True, True, True, False, False]), np.array([0.9, 0.5, 0.4, 0.5, 0.1]))}
    assert mood.errors() == {"test": Errors(missed=1, unhappy=3, alarms=1, others=2)}
    assert str(mood.errors()["test"]).startswith(
        "0.333 (1 of 3, 0.061 to 0.792) of the unhappy missed, 0.500 (1 of 2, "
    )
