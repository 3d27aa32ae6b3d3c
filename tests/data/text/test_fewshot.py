import pytest

from research.data.text import fewshot
from research.util.errors import UserError

EXAMPLES = [{"input": f"in {i}", "output": f"out {i}"} for i in range(6)]


def test_a_prompt_by_hand():
    made = fewshot.prompt(EXAMPLES[:1], "two {output}", shots=1, instructions="Count.")
    assert made.text == "Count.\n\nInput: in 0\nOutput: out 0\n\nInput: two {output}\nOutput:"
    assert (made.shots, made.left_out, made.lead) == (1, 0, " ")
    assert fewshot.prompt(EXAMPLES, "x", shots=0, template="{input}->{output};").text == "x->"


def test_the_seed_chooses_and_orders():
    def shown(seed, shots=3):
        text = fewshot.prompt(EXAMPLES, "q", shots=shots, seed=seed).text
        return tuple(line for line in text.split("\n") if line.startswith("Output: "))

    assert shown(1) == shown(1)
    assert len({shown(seed) for seed in range(20)}) > 10
    assert len(set(shown(4))) == 3  # drawn without replacement
    assert sorted(shown(0, 6)) == [f"Output: out {i}" for i in range(6)]
    assert shown(2, 6)[:2] == shown(2, 2)  # more shots are further ones


def test_what_does_not_fit_is_left_out_furthest_first():
    whole = fewshot.prompt(EXAMPLES, "q", shots=6, instructions="Do.")
    size = len(whole.text)
    made = fewshot.prompt(EXAMPLES, "q", shots=6, instructions="Do.", fits=lambda text: len(text) < size - 30)
    assert (made.shots, made.left_out) == (4, 2)
    assert made.text.startswith("Do.\n\n")
    assert whole.text.endswith(made.text.removeprefix("Do."))
    with pytest.raises(UserError, match="alone are longer than the model reads"):
        fewshot.prompt(EXAMPLES, "q", shots=2, fits=lambda text: False)


def test_load(tmp_path):
    file = tmp_path / "examples.jsonl"
    file.write_text('\ufeff{"input": "a", "output": "b", "more": 1}\n\n{"input": "c", "output": "\\u00e9"}\n', "utf-8")
    assert fewshot.load(file) == [{"input": "a", "output": "b"}, {"input": "c", "output": "é"}]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "holds no example"),
        ('{"input": "a", "output": "b"}\n{"input": "a"}\n', "line 2: want"),
        ('{"input": "a", "output": 3}', "line 1: want"),
        ("[1]", "line 1: want"),
        ("hello", "line 1: want"),
    ],
)
def test_bad_files(tmp_path, text, words):
    file = tmp_path / "examples.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        fewshot.load(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        fewshot.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "changes", [{"shots": 7}, {"shots": -1}, {"template": "{input}"}, {"template": "{output}{input}"}]
)
def test_bad_arguments(changes):
    with pytest.raises(UserError, match="shots=|few-shot template"):
        fewshot.prompt(EXAMPLES, "q", **{"shots": 1} | changes)
