"""Language models of conversations: the loss of replies, replies compared with the right ones, and a chat's history."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.language_model import train as family
from experiments.language_model.chat import Chat
from experiments.language_model.replies import Replied, Replies
from research.core import config
from research.data import tokenizers
from research.data.text import chat
from research.data.text.conversations import Conversation, message
from research.data.tokenizers.roles import Roles
from research.util.errors import UserError

BYTE = Roles(tokenizers.make("byte", ""))
KEY = jax.random.key(0)


def talk(*contents, kind=None):
    roles = ("user", "assistant")
    return Conversation([message(roles[i % 2], text) for i, text in enumerate(contents)], kind)


# The loss


@pytest.fixture
def build(tmp_path):
    file = tmp_path / "talks.jsonl"
    lengths = (3, 9, 4, 12, 6, 2, 8, 5)
    rows = [talk("q" * n, f"{n}" * n, "more", "no") for n in lengths]
    file.write_text("".join(json.dumps({"messages": row.messages}) + "\n" for row in rows))
    keys = [
        "data.source=conversations",
        f"data.path={file}",
        "data.tokenizer=byte",
        "data.length=64",
        "data.batch_size=7",
    ]
    keys += ["data.valid_fraction=0.1", "model.num_layers=1"]
    return lambda *changes: family.build(config.load("language_model/tiny", [*keys, *changes]))


def losses(e, params):
    """The loss of each training row or window: sum and weight."""
    source = e.train.source
    batch = source.gather(np.arange(len(source)), 0)
    return family.loss(e.model, params, {}, batch, KEY)[1][0]["loss"]


def test_the_loss_is_the_mean_over_the_tokens_of_replies(build):
    e = build("model.dropout=0.0")
    params = e.init_fn(KEY)["params"]
    apply = jax.jit(lambda tokens: jax.nn.log_softmax(e.model.apply({"params": params}, tokens[None])[0]))
    total, weight = 0.0, 0
    for each in e.data.parts["train"]:
        tokens = [t for m in each.messages for t in (*BYTE.encode_with_added(f"<|{m['role']}|>{m['content']}<|end|>"),)]
        log_p = apply(np.pad(tokens, (0, 64 - len(tokens))))
        speaker = ""
        for t, token in enumerate(tokens):
            if speaker == "<|assistant|>":
                total, weight = total - float(log_p[t - 1, token]), weight + 1
            if token >= 256:
                speaker = BYTE.decode(np.array([token]))
    ours = losses(e, params)
    assert float(ours[1]) == weight and float(ours[0]) == pytest.approx(total, rel=1e-5)


def test_packed_is_unpacked(build):
    alone, packed = build("model.dropout=0.0"), build("model.dropout=0.0", "data.packing=True")
    params = alone.init_fn(KEY)["params"]
    assert len(packed.train.source) < len(alone.train.source) == 7
    one, other = losses(alone, params), losses(packed, params)
    assert float(one[1]) == float(other[1]) and float(one[0]) == pytest.approx(float(other[0]), rel=1e-5)


def test_the_default_prompt_is_a_message_of_the_data(build):
    """Its markers are tokens, though their characters are none of this vocabulary."""
    e = build("data.tokenizer=char")
    assert "<" not in e.data.tokenizer.base.chars and e.data.opening == "qqqqq"
    state = SimpleNamespace(variables=jax.jit(e.init_fn)(KEY))
    assert "".join(e.sample(e, state, KEY, length=3)).startswith("<|user|>qqqqq<|end|><|assistant|>")


def test_perplexity_is_of_the_mean(build):
    assert build().split_metrics({"loss": 2.0})["perplexity"] == pytest.approx(np.exp(2))


def test_a_recurrent_model_learns_them_unpacked(build):
    e = build("model.name=lstm", "model.width=8")
    assert set(e.train.spec) == {"tokens", "targets", "token_mask"}
    with pytest.raises(UserError, match="data.packing = True: only a gpt"):
        build("model.name=lstm", "model.width=8", "data.packing=True")


# Replies


class Follows:
    """A model of the decoding protocol: each token is followed by another, of a table; what is not in it by the end."""

    vocab_size = BYTE.size

    def __init__(self, table, max_length=1000):
        self.max_length = max_length
        end = BYTE.added["<|end|>"]
        self._next = jnp.array([table.get(BYTE.decode(np.array([i])) if i > 127 else chr(i), end) for i in range(260)])

    def init_cache(self, batch, length, dtype):
        return {"index": jnp.zeros((), jnp.int32)}

    def apply(self, variables, tokens, cache):
        return 50.0 * jax.nn.one_hot(self._next[tokens], BYTE.size), {"index": cache["index"] + tokens.shape[1]}


STATE = SimpleNamespace(variables={"params": {"w": jnp.zeros(())}})
SAYS_OK = {"<|assistant|>": ord("o"), "o": ord("k")}


def test_replies_are_compared_by_kind():
    data = SimpleNamespace(
        parts={"valid": [talk("a", "ok", kind="x"), talk("bb", "ok", "c", "no", kind="y"), talk("d", "ok", kind="y")]},
        tokenizer=BYTE,
        template=chat.ROLES,
    )
    result = Replies(Follows(SAYS_OK), data)(STATE, "valid", None, lambda: None)
    assert result.values == {"exact_x": 1.0, "exact_y": 0.5, "exact": 2 / 3, "exact_alone": 2 / 3}
    assert Replies(Follows({}), data)(STATE, "valid", None, lambda: None).values["exact"] == 0.0
    data.parts["valid"] = [talk("a", "ok", kind="x")]
    assert set(Replies(Follows(SAYS_OK), data)(STATE, "valid", None, lambda: None).values) == {
        "exact_x",
        "exact",
    }  # no history
    data.parts["valid"] = [talk("a", "ok")]
    assert Replies(Follows(SAYS_OK), data)(STATE, "valid", None, lambda: None).values == {}


def test_alone_the_history_is_not_read(monkeypatch):
    talks = [talk("a", "b", "c", "d", kind="x")]
    data = SimpleNamespace(parts={"valid": talks}, tokenizer=BYTE, template=chat.ROLES)
    read, replies = [], Replies(Follows(SAYS_OK), data)
    monkeypatch.setattr(replies, "generate", lambda state, talks, asked, after_batch: read.append(asked) or ["d"])
    assert replies(STATE, "valid", None, lambda: None).values["exact_alone"] == 1.0
    assert [[m["content"] for m in messages] for (messages,) in read] == [["a", "b", "c"], ["c"]]


def test_only_the_answer_is_compared():
    problem = Conversation(talk("2 and 3?", "2+3=5\n#### 5").messages, "answer", "#### 3", "#### ")
    shares = [Replied([problem], [reply]).share() for reply in ("It is\n#### 5", "#### 6", "5", "#### 5 #### 6")]
    assert shares == [1, 0, 0, 0]


def test_replies_are_written(tmp_path):
    Replied([talk("a", "b")], ["c"]).write(tmp_path / "replies.txt")
    assert (tmp_path / "replies.txt").read_text() == "user       a\nassistant  b\nmodel      c\n"


# A chat


def chats(table=SAYS_OK, max_length=1000, **options):
    e = SimpleNamespace(model=Follows(table, max_length), data=SimpleNamespace(tokenizer=BYTE))
    return Chat({"prompt": "\n", "length": 500, "temperature": 0.0}, e, STATE, KEY, **options)


def said(it, text):
    return "".join(it.reply(text))


def test_the_history_grows_and_is_counted():
    it = chats(system="s")
    assert said(it, "Hi") == "ok" and (it.generated, it.context, it.size) == (3, 3 + 4 + 1 + 3, 1000)
    assert said(it, "So") == "ok" and it.context == 3 + 4 + 4 + 4 + 1 + 3
    assert [m["content"] for m in it.messages] == ["s", "Hi", "ok", "So", "ok"]
    it.reset()
    assert it.messages == [message("system", "s")] and said(it, "Hi") == "ok" and it.context == 11


def test_the_oldest_exchanges_leave_a_full_context():
    """An exchange has 8 tokens, the system text 3; of 27, a reply may have 7: 20 for the prompt, 8 + 3 + 5 with one before."""
    it = chats(max_length=27, system="s", length=7)
    for i in range(3):
        assert said(it, f"M{i}") == "ok"
        assert it.dropped == (i == 2)
    assert [m["content"] for m in it.messages] == ["s", "M1", "ok", "M2", "ok"]
    with pytest.raises(UserError, match="the message alone is longer than the 20 tokens that a reply of 7 leaves"):
        it.reply("x" * 20)
    assert len(it.messages) == 5


def test_a_stop_and_a_closed_reply():
    assert said(chats(stop=["k"]), "Hi") == "o"
    it = chats({"<|assistant|>": ord("a"), "a": ord("a")}, length=50)
    pieces = it.reply("Hi")
    first = next(p for p in pieces if p)
    pieces.close()
    assert it.messages[1]["content"].startswith(first) and len(it.messages[1]["content"]) < 50


def test_an_empty_reply_is_no_turn():
    it = chats({})
    assert said(it, "Hi") == "" and it.messages == [] and it.generated == 1


def test_markers_that_are_typed_are_characters():
    it = chats()
    said(it, "<|end|><|system|>")
    assert it.context == 1 + 17 + 1 + 1 + 3


def test_chatml_without_roles():
    """An imported model, or one of plain text: ChatML spelled in characters, its end a stop."""
    e = SimpleNamespace(model=Follows({"\n": ord("o"), "o": ord("<")}), data=SimpleNamespace(tokenizer=BYTE.base))
    e.model._next = e.model._next.at[ord("<")].set(ord("|"))
    it = Chat({"temperature": 0.0}, e, STATE, KEY, length=4, stop=["<|"])
    assert said(it, "Hi") == "o" and it.context == len("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n") + 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 0}, "--length=0: at least 1 and below the 1,000"),
        ({"length": 1000}, "--length=1000"),
        ({"stop": [""]}, "one character or more"),
        ({"system": " "}, "one character or more"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"chat_template": "nowhere"}, "cannot read nowhere"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        chats(**options)


def test_sample_replies_to_a_prompt(build):
    """A model of replies takes a prompt as a user's message."""
    e = build("sample.length=3")
    state = SimpleNamespace(variables=jax.jit(e.init_fn)(KEY))
    assert "".join(e.sample(e, state, KEY, prompt="Hi")).startswith("<|user|>Hi<|end|><|assistant|>")
