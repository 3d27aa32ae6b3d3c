"""Tokenizers: exact round trips, errors that name the character, parity with Transformers."""

import functools
import itertools
import json
import os
import re
import subprocess
import sys
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research.data import download, tokenizers
from research.data.builders.tiny_shakespeare import TinyShakespeare
from research.data.builders.wikitext2 import Wikitext2
from research.data.tokenizers import base
from research.data.tokenizers.gpt2 import GPT2_FILES
from research.data.tokenizers.wordpiece import BERT_FILES
from research.util.errors import UserError

TEXTS = [
    "Hello  world\n\n\tdon't I'll you're",
    "  two spaces, trailing  \n",
    "汉字混排 English 한국어 العربية naïve café e\u0301",
    "👩‍👩‍👧‍👦 \u200d\ufeff\u00a0 \r\n x\x85y\x1c\nz",
    "12345 3.14 <|endoftext|> a\n\nb\nc",
    "",
]


@pytest.fixture(scope="module")
def gpt2():
    return tokenizers.make("gpt2", "")


def test_char_is_sorted_code_points():
    char = tokenizers.make("char", "hello, 世界")
    assert char.chars == " ,ehlo世界"
    assert char.encode("世lo").tolist() == [6, 4, 5]
    assert char.decode(np.array([6, 4, 5])) == "世lo"
    assert char.encode("").shape == (0,)
    assert char.encode("he").dtype == np.int32


@pytest.mark.parametrize("bad", ["€", "\x00", "\U0001f600"])  # within, below and above the known
def test_char_names_what_it_does_not_know(bad):
    with pytest.raises(UserError, match=rf"U\+{ord(bad):04X}\) at position 2"):
        tokenizers.make("char", "hello, 世界").encode(f"he{bad}")


def test_char_with_a_least_count_knows_unknown_characters():
    char = tokenizers.make("char", "aab世世b c", valid="d", min_count=2)
    assert (char.chars, char.size, char.special) == ("ab世", 5, {"pad": 0, "unk": 1})
    assert char.encode("a世cd").tolist() == [2, 4, 1, 1] and char.encode("a").dtype == np.int32
    assert char.decode(np.array([0, 1, 4])) == "<pad><unk>世"
    assert tokenizers.from_json(char.to_json()) == char
    assert "unknown" not in tokenizers.make("char", "ab").to_json()
    for least in (0, 4):
        with pytest.raises(UserError, match=f"data.min_count = {least}: at least 1, and at most 3 here"):
            tokenizers.make("char", "aaab", min_count=least)


def test_special_tokens_that_are_needed_are_added_to_what_is_learnt():
    char = tokenizers.make("char", "ba", valid="c", special=("eos", "mask"), optional=("bos", "pad"))
    assert char.special == {"pad": 0, "unk": 1, "bos": 2, "eos": 3, "mask": 4} and char.size == 7
    assert char.encode("abc").tolist() == [5, 6, 1] and char.decode(np.array([3, 6])) == "<eos>b"
    assert tokenizers.from_json(char.to_json()) == char
    word = tokenizers.make("word", "b a b", special=("eos",), optional=("bos",))
    assert word.words == ("<pad>", "<unk>", "<bos>", "<eos>", "b", "a")
    bpe = {"vocab_size": 300, "special": ("cls", "mask"), "optional": ("unk",)}
    assert tokenizers.make("bpe", "a", **bpe).to_json() == tokenizers.make("bpe", "a", vocab_size=300).to_json()


def test_special_tokens_that_are_needed_have_to_be_in_a_vocabulary_that_is_fixed(tmp_path):
    with pytest.raises(
        UserError, match="^data.tokenizer = 'byte' has no <sep>, and its vocabulary is fixed: choose 'char'"
    ):
        tokenizers.make("byte", "a", special=("sep",))
    assert tokenizers.make("byte", "a", optional=("sep",)).size == 256
    file = tmp_path / "vocabulary.json"
    file.write_text(f"[{tokenizers.make('word', 'a b', special=('cls',)).to_json()}]")
    assert tokenizers.make(str(file), "c", special=("pad", "cls")).special == {"pad": 0, "unk": 1, "cls": 2}
    with pytest.raises(UserError, match=f"data.tokenizer = '{file}' has no <mask>"):
        tokenizers.make(str(file), "c", special=("cls", "mask"))


@pytest.mark.parametrize(
    ("stored", "special"),
    [
        ('{"name": "char", "chars": "ab"}', {}),
        ('{"name": "char", "chars": "ab", "unknown": true}', {"pad": 0, "unk": 1}),
        (
            '{"name": "word", "words": ["<pad>", "<unk>", "<cls>", "a"], "lowercase": false}',
            {"pad": 0, "unk": 1, "cls": 2},
        ),
    ],
)
def test_the_vocabularies_of_runs_from_before_are_restored(stored, special):
    tokenizer = tokenizers.from_json(stored)
    assert tokenizer.special == special and tokenizer.encode("a").tolist() == [len(special)]
    assert json.loads(tokenizer.to_json()) == json.loads(stored)


def test_byte_replaces_what_is_not_utf8():
    byte = tokenizers.make("byte", "")
    assert byte.encode("é").tolist() == [0xC3, 0xA9]
    assert byte.decode(np.array([0x61, 0xC3])) == "a\ufffd"
    assert byte.size == 256


@given(st.text())
def test_byte_and_char_round_trip(text):
    for name in ("byte", "char"):
        tokenizer = tokenizers.make(name, text)
        again = tokenizers.from_json(tokenizer.to_json())
        assert again == tokenizer
        assert again.decode(tokenizer.encode(text)) == text


def test_half_a_surrogate_pair_is_an_error():
    with pytest.raises(UserError, match="position 1"):
        tokenizers.make("byte", "").encode("a\ud800")


def test_unknown_name():
    with pytest.raises(UserError, match="did you mean 'byte'"):
        tokenizers.make("bytes", "")


ENGLISH = topics["assignment"] + topics["class"] + topics["import"]
CHINESE = (
    "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。故常無欲，以觀其妙；常有欲，以觀其徼。"
    "此兩者，同出而異名，同謂之玄。玄之又玄，眾妙之門。天下皆知美之為美，斯惡已。皆知善之為善，斯不善已。\n"
)


@functools.cache
def learnt(name):
    return tokenizers.make(name, ENGLISH + 5 * CHINESE, vocab_size=600)


@pytest.mark.parametrize("name", ["byte", "bpe", "unigram", pytest.param("gpt2", marks=pytest.mark.data)])
def test_any_unicode_comes_back(name):
    tokenizer = learnt(name) if name in ("bpe", "unigram") else tokenizers.make(name, "")

    @settings(max_examples=200, deadline=None)
    @given(st.text())
    @example("<|endoftext|><pad><eos> <0x41> [MASK]")
    @example("\ufeff汉字混排 e\u0301 👩‍👩‍👧‍👦 العربية\x00\r\n")
    @example(ENGLISH + CHINESE)
    def round_trip(text):
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32
        assert tokenizer.decode(ids) == text
        assert not set(ids.tolist()) & set(tokenizer.special.values())  # text is text

    round_trip()


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_learnt_pieces(name):
    """Common words and characters become single tokens, and what is kept comes back the same."""
    tokenizer = learnt(name)
    assert tokenizer.size == 600
    assert tokenizer.special == {"pad": 0, "cls": 1, "sep": 2, "mask": 3, "bos": 4, "eos": 5}
    assert len(tokenizer.encode(" the the the")) == 3
    assert len(tokenizer.encode(CHINESE)) < len(CHINESE.encode()) * 2 / 3
    assert len(tokenizer.encode("亀")) == 3  # never seen: its bytes
    ids = tokenizer.encode("the walk")
    assert tokenizer.decode(np.concatenate([[4], ids, [5, 0, 0]])) == "<bos>the walk<eos><pad><pad>"
    again = tokenizers.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    np.testing.assert_array_equal(again.encode(ENGLISH + CHINESE), tokenizer.encode(ENGLISH + CHINESE))


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_learnt_pieces_are_the_same_in_every_process(name):
    """The library's hash tables have another order in each of its objects, and in each process."""
    program = (
        f"import sys; from research.data import tokenizers; t = tokenizers.make({name!r}, sys.argv[1], vocab_size=400)"
    )
    command = [sys.executable, "-c", f"{program}; print(t.to_json())", ENGLISH + CHINESE]
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "TOKENIZERS_PARALLELISM": "false"}
    there = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    here = [tokenizers.make(name, ENGLISH + CHINESE, vocab_size=400).to_json() for _ in range(4)]
    assert set(here) == {there.strip()}


def test_bpe_merges_by_hand():
    """aab aab aab ac: first a+a (3), then aa+b (3); the space before a word is part of it."""
    tokenizer = tokenizers.make("bpe", "aab\naab\naab\nac", vocab_size=264)  # 6 special, 256 bytes, 2 merges
    assert tokenizer.size == 264
    assert tokenizer.encode("aab").tolist() == [263]
    assert tokenizer.encode("aa").tolist() == [262]
    assert tokenizer.encode("ab").tolist() == [tokenizer.encode(c)[0] for c in "ab"]


def test_unigram_takes_the_likeliest_division():
    """Kudo 2018, eq. 3, by trying every division of a word."""
    tokenizer = learnt("unigram")
    scores = dict(json.loads(tokenizer.to_json())["model"])
    for word in ("assignment", "imports", "theof", "notclass"):
        parts = [
            [word[a:b] for a, b in zip((0, *cuts), (*cuts, len(word)), strict=True)]
            for n in range(len(word))
            for cuts in itertools.combinations(range(1, len(word)), n)
        ]
        best = max((p for p in parts if all(x in scores for x in p)), key=lambda p: sum(scores[x] for x in p))
        assert [tokenizer.decode(np.array([i])) for i in tokenizer.encode(word)] == best


def test_words_by_hand():
    word = tokenizers.make("word", "b a b <unk>\n c <eos> a b <pad>", "z")
    assert word.words == ("<pad>", "<unk>", "b", "a", "<eos>", "c")
    assert word.special == {"pad": 0, "unk": 1, "eos": 4}
    assert word.encode("a  z\tb <unk> <pad> <eos>\u3000c").tolist() == [3, 1, 2, 1, 1, 4, 5]
    assert word.decode(np.array([2, 1, 3])) == "b <unk> a"
    assert tokenizers.make("word", "b a b A", vocab_size=3).words[2:] == ("b",)
    assert tokenizers.make("word", "b a b A", min_count=2).words[2:] == ("b",)
    lower = tokenizers.make("word", "b a b A", lowercase=True, special=("bos", "eos"))
    assert lower.words == ("<pad>", "<unk>", "<bos>", "<eos>", "a", "b")
    assert lower.special == {"pad": 0, "unk": 1, "bos": 2, "eos": 3}
    assert lower.encode("B Ä").tolist() == [5, 1]
    assert tokenizers.from_json(lower.to_json()) == lower


@given(st.text())
def test_words_are_str_split(text):
    word = tokenizers.make("word", text)
    kept = [w if w != "<pad>" else "<unk>" for w in text.split()]
    assert word.decode(word.encode(text)) == " ".join(kept)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("bpe", {}, "tokenizer 'bpe' learns its vocabulary: set data.vocab_size, above 262"),
        ("unigram", {"vocab_size": 262}, "data.vocab_size = 262: above 262"),
        ("word", {"vocab_size": 2}, "data.vocab_size = 2: <pad> <unk> and at least one word"),
        ("word", {"min_count": 0}, "data.min_count = 0"),
        ("word", {"special": ("end",)}, "special token 'end'"),
        ("gpt2", {"vocab_size": 100}, "data.vocab_size = 100 means nothing to the tokenizer 'gpt2'"),
        ("bpe", {"vocab_size": 300, "min_count": 2}, "data.min_count = 2 means nothing"),
    ],
)
def test_options_that_do_not_fit_are_named(name, options, told):
    with pytest.raises(UserError, match=re.escape(told)):
        tokenizers.make(name, "some text", **options)


@pytest.mark.parametrize(
    "name", ["char", "byte", "word", "bpe", *(pytest.param(n, marks=pytest.mark.data) for n in ("gpt2", "wordpiece"))]
)
def test_an_unknown_token_is_one_clear_line(name):
    tokenizer = learnt(name) if name == "bpe" else tokenizers.make(name, "ab")
    for bad in (tokenizer.size, -1):
        with pytest.raises(UserError, match=rf"token {bad} at position 1 is not among the {tokenizer.size:,} of"):
            tokenizer.decode(np.array([0, bad]))


@pytest.mark.parametrize("name", ["byte", "word", "bpe", "unigram"])
def test_empty_and_short_texts(name):
    size = {"vocab_size": 300} if name in ("bpe", "unigram") else {}
    tokenizer = tokenizers.make(name, "a", **size)
    assert tokenizer.encode("").shape == (0,) and tokenizer.decode(np.array([], np.int32)) == ""
    if size:
        assert tokenizer.decode(tokenizer.encode("né")) == "né"
        with pytest.raises(UserError, match="no text to learn from"):
            tokenizers.make(name, "", **size)


@pytest.mark.parametrize(("name", "size"), [("word", 300_000), ("bpe", 100_000), ("unigram", 8_000)])
def test_one_enormous_word_is_learnt_and_said(name, size):
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), size))
    tokenizer = tokenizers.make(name, text, vocab_size=300)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == 1 if name == "word" else len(ids) < 0.7 * size


@pytest.mark.data
def test_wordpiece_by_hand():
    """The Transformers documentation's example, and BERT's own special tokens."""
    wordpiece = tokenizers.make("wordpiece", "")
    assert wordpiece.size == 30_522
    assert wordpiece.special == {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103}
    assert wordpiece.decode(wordpiece.encode("Unaffable NAÏVE\x00 道世")) == "unaffable naive 道 世"
    assert wordpiece.encode("[MASK]").tolist() != [103]
    again = tokenizers.from_json(wordpiece.to_json())
    np.testing.assert_array_equal(again.encode(TEXTS[2]), wordpiece.encode(TEXTS[2]))


@pytest.mark.data
@pytest.mark.parity
def test_wordpiece_equals_transformers():
    """On all of WikiText-2's validation text, pieces of a megabyte or not, and on every awkward text."""
    transformers = pytest.importorskip("transformers")
    wordpiece = tokenizers.make("wordpiece", "")
    theirs = transformers.BertTokenizer(str(download.fetch("bert_vocab", BERT_FILES)["vocab.txt"]))
    real = download.read(download.fetch("wikitext2", Wikitext2.FILES)["wiki.valid.tokens"]).decode("utf-8")
    for text in (*TEXTS, CHINESE, real):
        assert wordpiece.encode(text).tolist() == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.data
def test_gpt2_known_ids(gpt2):
    # "Hello world" as in OpenAI's gpt-2 and tiktoken; 50256 ends a text.
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.size == 50257
    assert gpt2.decode(np.array([50256])) == "<|endoftext|>"
    assert 50256 not in gpt2.encode("<|endoftext|>")


@pytest.mark.data
def test_gpt2_comes_back_without_its_files(gpt2, tmp_path, monkeypatch):
    text = gpt2.to_json()
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    again = tokenizers.from_json(text)
    assert json.loads(text)["name"] == "gpt2"
    for text in TEXTS:
        np.testing.assert_array_equal(again.encode(text), gpt2.encode(text))


@pytest.mark.data
def test_gpt2_in_pieces_is_gpt2_at_once(gpt2, monkeypatch):
    text = "".join(f"{text}\nline {i}\n\n  indented\n" for i, text in enumerate(TEXTS * 3))
    at_once = gpt2.encode(text)
    pieces = list(base.pieces(text, 5))
    assert len(pieces) > 20
    assert "".join(pieces) == text
    np.testing.assert_array_equal(np.concatenate([gpt2.encode(p) for p in pieces]), at_once)


@pytest.mark.data
@pytest.mark.parity
def test_gpt2_equals_transformers(gpt2):
    transformers = pytest.importorskip("transformers")
    paths = download.fetch("gpt2_bpe", GPT2_FILES)
    lines = paths["vocab.bpe"].read_text(encoding="utf-8").split("\n")[1:-1]
    theirs = transformers.GPT2Tokenizer(
        vocab=json.loads(paths["encoder.json"].read_text(encoding="utf-8")),
        merges=[tuple(line.split()) for line in lines],
    )
    real = download.read(download.fetch("wikitext2", Wikitext2.FILES)["wiki.valid.tokens"]).decode("utf-8")
    for text in (*TEXTS, CHINESE, real):
        text = text.replace("<|endoftext|>", "")  # to them one token, to us its characters
        assert gpt2.encode(text).tolist() == theirs(text)["input_ids"]


@pytest.mark.data
def test_gpt2_counts_of_nanogpt(gpt2):
    """nanoGPT's README on Tiny Shakespeare: 301,966 training and 36,059 validation tokens."""
    files = download.fetch("tiny_shakespeare", TinyShakespeare.FILES)
    text = files["input.txt"].read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    assert [len(gpt2.encode(part)) for part in (text[:cut], text[cut:])] == [301_966, 36_059]
