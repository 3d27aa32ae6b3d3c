"""tokenizer.json: what the library writes is read, and says the same."""

import json

import pytest
import tokenizers as hf

from research.data import tokenizers
from research.util.errors import UserError


@pytest.fixture
def path(tmp_path):
    """Words of a lower-cased text, with two special tokens."""
    made = hf.Tokenizer(hf.models.WordLevel({"<unk>": 0, "</s>": 1, "the": 2, "fox": 3}, unk_token="<unk>"))
    made.normalizer = hf.normalizers.Lowercase()
    made.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<unk>", "</s>"])
    made.post_processor = hf.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path / "tokenizer.json")


def test_it_says_what_the_file_says(path):
    ours = tokenizers.make(path, "a text that nothing is learnt from")
    assert ours.size == 4 and ours.special == {"unk": 0, "eos": 1}
    assert ours.encode("The fox the dog").tolist() == [2, 3, 2, 0]  # no </s>: those are the task's
    assert ours.decode([2, 3]) == "the fox"
    again = tokenizers.from_json(ours.to_json())
    assert again.encode("The fox").tolist() == [2, 3] and again.size == 4


def test_a_text_that_reads_like_a_special_token_is_text(path):
    theirs = hf.Tokenizer.from_file(path)
    assert theirs.encode("the </s>x", add_special_tokens=False).ids == [2, 1, 0]
    assert tokenizers.make(path, "").encode("the </s>x").tolist() == [2, 0]


def test_the_table_may_have_more_rows(path):
    ours = tokenizers.make(path, "", vocab_size=8)
    assert ours.size == 8 and ours.decode([2, 7]) == "the"
    assert json.loads(ours.to_json())["size"] == 8
    with pytest.raises(UserError, match="token 8 at position 1 is not among the 8"):
        ours.decode([2, 8])


def test_bad_files(path, tmp_path):
    for name, message in {
        "nowhere.json": "data.tokenizer = nowhere.json: cannot read it: No such file",
        str(tmp_path / "other.json"): "is no tokenizer.json",
        "pretrained": "give the path of its tokenizer.json",
    }.items():
        (tmp_path / "other.json").write_text('{"version": "1.0"}')
        with pytest.raises(UserError, match=message) as e:
            tokenizers.make(name, "")
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="data.vocab_size = 3: the tokenizer has 4 tokens"):
        tokenizers.make(path, "", vocab_size=3)
    with pytest.raises(UserError, match="data.min_count = 2 means nothing to the tokenizer 'pretrained'"):
        tokenizers.make(path, "", min_count=2)


def test_an_expression_that_does_not_end_is_one_line(tmp_path):
    """The library ends then by a PanicException, which is no Exception."""
    made = hf.Tokenizer(hf.models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    made.pre_tokenizer = hf.pre_tokenizers.Split(hf.Regex("(a+)+b"), "isolated")
    made.save(str(tmp_path / "tokenizer.json"))
    ours = tokenizers.make(str(tmp_path / "tokenizer.json"), "")
    assert ours.encode("aab").tolist() == [0]
    with pytest.raises(UserError, match="a regular expression that does not end on this text") as e:
        ours.encode("a" * 40 + "!")
    assert "\n" not in str(e.value) and len(str(e.value)) < 300
