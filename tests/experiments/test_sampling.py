"""What `almanac sample` asks of a language model: patterns, conversations, worked examples, choices, a draft."""

import json
import re
from types import SimpleNamespace

import jax
import pytest

from research.core import config
from research.run import reopen
from research.util.errors import UserError

KEY = jax.random.key(0)
SIZES = ["data.source=files", "data.length=120", "data.batch_size=2", "model.num_layers=1", "model.width=16"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(experiment, state) of a small model of printable characters, as it is before any training."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(("".join(map(chr, range(32, 127))) + "\n") * 20)
    e = reopen.build("language_model/tiny", config.load("language_model/tiny", [*SIZES, f"data.path={file}"]))
    return e, SimpleNamespace(variables=jax.jit(e.init_fn)(KEY))


@pytest.fixture
def said(model):
    return lambda **given: "".join(model[0].sample(*model, KEY, **{"length": 30} | given))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_must_match_does(said, tmp_path):
    text = said(prompt="ab", regex="x[0-9]{4,8}y")
    assert re.fullmatch("abx[0-9]{4,8}y", text)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "b": {"type": "boolean"}},
        "required": ["n", "b"],
    }
    value = json.loads(said(prompt=" ", json_schema=write(tmp_path / "schema.json", schema)))
    assert list(value) == ["n", "b"] and isinstance(value["n"], int) and isinstance(value["b"], bool)


def test_a_reply_follows_the_conversation(said, tmp_path):
    talk = write(tmp_path / "talk.json", [{"role": "user", "content": "Hello"}])
    prompt = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert said(chat=talk).startswith(prompt) and len(said(chat=talk)) > len(prompt)
    (tmp_path / "template").write_text("{{ messages[0].content }}?")
    assert said(chat=talk, chat_template=tmp_path / "template", length=1)[:-1] == "Hello?"


def test_examples_stand_before_the_prompt(said, tmp_path, capsys):
    file = write(tmp_path / "examples.jsonl", *({"input": "a" * 12, "output": "b"} for _ in range(5)))
    one = "Input: aaaaaaaaaaaa\nOutput: b\n\n"
    text = said(few_shot=file, shots=1, instructions="Say b.", prompt="q", length=5)
    assert text.startswith(f"Say b.\n\n{one}Input: q\nOutput:")
    assert capsys.readouterr().err == ""
    text = said(few_shot=file, prompt="q", length=20)  # 4 of 31 characters, 16 of the query: with 20 more above 120
    assert text.startswith(f"{one}{one}Input: q")
    assert capsys.readouterr().err == "almanac: 2 of 4 examples do not fit\n"


def test_the_likeliest_is_chosen(said):
    lines = said(prompt="The answer is ", choice=["yes", "no", "perhaps"]).splitlines()
    shares, scores, labels = zip(*(line.split() for line in lines), strict=True)
    assert set(labels) == {"yes", "no", "perhaps"}
    assert sorted(map(float, scores), reverse=True) == list(map(float, scores))
    assert sum(map(float, shares)) == pytest.approx(1, abs=2e-4)
    assert labels[0] == "no"  # untrained, every character costs about the same: the shortest is likeliest


def test_a_draft_changes_no_greedy_text(model, said, capsys):
    plain = said(prompt="abc", temperature=0.0)
    assert said(prompt="abc", temperature=0.0, draft=model, ahead=5) == plain
    told = re.fullmatch(
        r"almanac: (\d+) of (\d+) drafted tokens accepted in (\d+) calls of the model\n", capsys.readouterr().err
    )
    assert told[1] == told[2] and int(told[3]) == 6  # its own draft: 1 with the prompt, then 6 + 6 + 6 + 6 + 5


@pytest.mark.parametrize(
    "given, words",
    [
        ({"regex": "("}, "no regular expression"),
        ({"regex": "é"}, "missing tokens"),
        ({"regex": "a{31}"}, "length=30: the shortest text that matches the constraint has 31 tokens"),
        ({"regex": "a", "json_schema": "b"}, "--regex and --json-schema: one or the other"),
        ({"regex": "a", "stop": ["b"]}, "leave stop out"),
        ({"json_schema": "nowhere.json"}, "cannot read nowhere.json"),
        ({"shots": 3}, "--shots needs --few-shot"),
        ({"ahead": 3}, "--ahead needs --draft"),
        ({"few_shot": "nowhere.jsonl"}, "--few-shot needs --prompt"),
        ({"few_shot": "nowhere.jsonl", "prompt": "a"}, "cannot read nowhere.jsonl"),
        ({"chat": "nowhere.json"}, "cannot read nowhere.json"),
        ({"chat": "a", "prompt": "b"}, "--prompt and --chat: one or the other"),
        ({"choice": ["a"], "regex": "b"}, "--choice and --regex: one or the other"),
        ({"choice": [""]}, "a continuation of 0"),
    ],
)
def test_bad_arguments(said, given, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        said(**given)
    assert "\n" not in str(caught.value)


def test_a_draft_of_other_tokens(model, said, tmp_path):
    e, state = model
    other = SimpleNamespace(tokenizer=SimpleNamespace(to_json=lambda: "{}"), model=e.model)
    with pytest.raises(UserError, match="--draft has another vocabulary"):
        said(draft=(other, state))
    with pytest.raises(UserError, match="ahead=0"):
        said(draft=model, ahead=0)
    with pytest.raises(UserError, match="the models read 120"):
        said(draft=model, length=200)


# Stops


def test_a_stop_that_cannot_be_said_is_no_mistake(said):
    plain = said(prompt="ab")
    assert said(prompt="ab", stop=["é"]) == said(prompt="ab", stop=["é", "世界"]) == plain
    cut = said(prompt="ab", stop=["é", plain[7]])
    assert cut == plain[: plain.index(plain[7], 2)]


def test_a_draft_is_counted_to_its_end_though_a_stop_ends_the_text(model, said, capsys):
    plain = said(prompt="abc", temperature=0.0)
    text = said(prompt="abc", temperature=0.0, draft=model, ahead=5, stop=[plain[5:9]])
    assert text == plain[: plain.index(plain[5:9], 3)]
    assert "drafted tokens accepted in" in capsys.readouterr().err
