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


def asking(path, **changes):
    """The file with further requests."""
    values = json.loads(open(path).read()) | changes
    with open(path, "w") as file:
        json.dump(values, file)
    return path


def test_a_file_that_cuts_or_fills_texts_does_neither(path, capsys):
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    fill = {"strategy": {"Fixed": 6}, "direction": "Right", "pad_id": 1, "pad_type_id": 0, "pad_token": "</s>"}
    assert (
        hf.Tokenizer.from_str(hf.Tokenizer.from_file(path).to_str()).encode("the").ids
    )  # a file that asks for nothing
    ours = tokenizers.make(path, "")
    assert capsys.readouterr().err == ""
    asking(path, truncation=cut, padding=fill | {"pad_to_multiple_of": None})
    assert hf.Tokenizer.from_file(path).encode("the fox the fox").ids == [2, 1, 1, 1, 1, 1]  # what it asks for
    ours = tokenizers.make(path, "")
    line = f"almanac: {path} asks to cut texts and to fill texts up; this is switched off, texts are encoded whole\n"
    assert capsys.readouterr().err == line
    for tokenizer in (ours, tokenizers.from_json(ours.to_json())):
        assert tokenizer.encode("the fox the fox").tolist() == [2, 3, 2, 3] and tokenizer.encode("the").tolist() == [2]
    # A run of an earlier version has kept them.
    kept = json.loads(ours.to_json())
    kept["model"] |= {"truncation": cut, "padding": fill | {"pad_to_multiple_of": None}}
    assert tokenizers.from_json(json.dumps(kept)).encode("the fox the fox").tolist() == [2, 3, 2, 3]


def test_merges_are_not_drawn_at_random(tmp_path, capsys):
    made = hf.Tokenizer(hf.models.BPE({"a": 0, "b": 1, "ab": 2, "abab": 3}, [("a", "b"), ("ab", "ab")], dropout=0.5))
    made.save(str(tmp_path / "tokenizer.json"))
    ours = tokenizers.make(str(tmp_path / "tokenizer.json"), "")
    assert "asks to draw merges at random; this is switched off" in capsys.readouterr().err
    assert {tuple(ours.encode("abab").tolist()) for _ in range(50)} == {(3,)}


def test_what_is_put_before_a_text(path):
    ours = tokenizers.make(path, "")
    assert ours.prefix == [] and tokenizers.opened(ours, "the").tolist() == [2]  # its </s> comes after a text
    template = hf.processors.TemplateProcessing(single="</s> $A <unk>", special_tokens=[("</s>", 1), ("<unk>", 0)])
    for processor in (template, hf.processors.Sequence([hf.processors.ByteLevel(), template])):
        model = hf.Tokenizer.from_file(path)
        model.post_processor = processor
        model.save(path)
        ours = tokenizers.make(path, "")
        assert ours.prefix == [1]
        assert tokenizers.opened(ours, "the fox").tolist() == [1, 2, 3] and ours.encode("the fox").tolist() == [2, 3]
        assert tokenizers.from_json(ours.to_json()).prefix == [1]
    assert tokenizers.opened(tokenizers.make("byte", ""), "a").tolist() == [97]


def test_added_tokens_where_they_are_wanted(path):
    ours = tokenizers.make(path, "")
    assert ours.added == {"<unk>": 0, "</s>": 1}
    assert tokenizers.encode_with_added(ours, "the </s>fox").tolist() == [2, 1, 3]
    assert ours.encode("the </s>fox").tolist() == [2, 0]
    assert tokenizers.encode_with_added(tokenizers.make("byte", ""), "a").tolist() == [97]


def test_a_byte_order_mark_is_not_in_the_way(path):
    text = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(b"\xef\xbb\xbf" + text)
    assert tokenizers.make(path, "").size == 4


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
