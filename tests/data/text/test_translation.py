"""Translation: sources, tokens, batches, the user's own files, and what a text becomes."""

import numpy as np
import pytest
import tokenizers as hf

from research.core.config import track_reads
from research.data.text import language_modelling, parallel_corpora, translation
from research.data.text.parallel_corpora import in_words
from research.evals.bleu import bleu
from research.util.errors import UserError

DEFAULTS = {
    "path": None,
    "valid_fraction": None,
    "tokenizer": "word",
    "vocab_size": None,
    "min_count": None,
    "length": 16,
    "tokens": 64,
    "eval_tokens": 64,
    "buckets": 2,
    "bucket_step": 4,
    "row_multiple": 1,
}


def load(joint=True, rouge=None, **cfg):
    return translation.load(track_reads(DEFAULTS | cfg), joint, 0, rouge)


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")


def test_numbers_in_words_by_hand():
    said = {
        0: "zero", 13: "thirteen", 40: "forty", 99: "ninety nine", 100: "one hundred", 512: "five hundred twelve",
        1000: "one thousand", 20_007: "twenty thousand seven", 121_000: "one hundred twenty one thousand",
        999_999: "nine hundred ninety nine thousand nine hundred ninety nine",
    }  # fmt: skip
    assert {n: in_words(n) for n in said} == said


def test_the_default_needs_nothing_and_its_parts_share_no_line():
    data = load(source="numbers", pair="digits-words")
    parts = {name: set(lines.source) for name, lines in data.corpus.parts.items()}
    assert {name: len(p) for name, p in parts.items()} | {"train": 0} == {"train": 0, "valid": 500, "test": 500}
    assert not parts["train"] & (parts["valid"] | parts["test"]) and not parts["valid"] & parts["test"]
    for lines in data.corpus.parts.values():
        for digits, words in list(zip(lines.source, lines.target, strict=True))[:50]:
            assert in_words(int(digits.replace(" ", ""))) == words
    other = load(source="numbers", pair="words-digits")
    assert other.corpus.parts["test"].source == data.corpus.parts["test"].target


def test_tokens_by_hand(tmp_path):
    write(tmp_path, train_en="a b a\nb\n", train_de="x\ny x\n", valid_en="a q\n", valid_de="x z\n")
    data = load(source="files", pair="en-de", path=str(tmp_path))
    # pad unk bos eos, then by frequency and code points: a b x y (2 2 2 1).
    assert data.source is data.target and data.target.words == ("<pad>", "<unk>", "<bos>", "<eos>", "a", "b", "x", "y")
    batch = data.parts["train"].gather(np.arange(2), length=5)
    np.testing.assert_array_equal(batch["source"], [[4, 5, 4, 3, 0], [5, 3, 0, 0, 0]])
    np.testing.assert_array_equal(batch["tokens"], [[2, 6, 0, 0, 0], [2, 7, 6, 0, 0]])
    np.testing.assert_array_equal(batch["targets"], [[6, 3, 0, 0, 0], [7, 6, 3, 0, 0]])
    np.testing.assert_array_equal(batch["targets_mask"], [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    valid = data.parts["valid"].gather(np.arange(1), length=3)
    np.testing.assert_array_equal(valid["source"], [[4, 1, 3]])
    np.testing.assert_array_equal(data.codec.encode_lines(["b", "a a"])["source"], [[5, 3, 0], [4, 4, 3]])
    assert data.codec.text(np.array([6, 7, 3, 4])) == "x y" and data.codec.text(np.array([6, 1])) == "x <unk>"
    apart = load(False, source="files", pair="en-de", path=str(tmp_path))
    assert (apart.source.size, apart.target.size) == (6, 6)


def test_long_and_empty_lines(tmp_path):
    """Training leaves out what does not fit; the other parts keep every line, cut."""
    write(tmp_path, train_en="a b c d\na\n\nb\n", train_de="x\nx\ny\ny\n", valid_en="a b c d\n\n", valid_de="x\ny\n")
    data = load(source="files", pair="en-de", path=str(tmp_path), length=4)
    assert len(data.parts["train"]) == 2
    batch = data.parts["valid"].gather(np.arange(2))
    np.testing.assert_array_equal(batch["source_mask"].sum(1), [4, 1])  # three and the end; the end alone
    report = "\n".join(data.report)
    assert "left out 1 lines of train longer than 3 tokens, 1 with an empty side" in report
    assert "cut      1 lines of valid" in report


def test_batches_by_hand(tmp_path):
    """Lines of 2, 3 and 4 tokens with their ends; buckets of 4 and of what the held-out line of 6 needs."""
    write(tmp_path, train_en="a\na b\na b c\n", train_de="x\nx\ny\n", valid_en="a b c a b\n", valid_de="x\n")
    data = load(source="files", pair="en-de", path=str(tmp_path), buckets=1, tokens=8)
    assert (data.max_length, data.codec.constraints) == (8, ["s <= 8"])
    assert [shapes["source"].shape for shapes in data.train.shapes] == [(2, 4)] and data.train.steps == 2
    rows = [data.train.batch(step) for step in range(2)]
    assert sorted(n for batch in rows for n in batch["source_mask"].sum(1)[batch["mask"] == 1]) == [2, 3, 4]
    np.testing.assert_array_equal(data.evals["valid"].batch(0)["source"][0, 5:], [data.codec.eos, 0, 0])
    assert data.report[-1].startswith("buckets  length x rows: 4 x 2; 2 batches an epoch")
    assert data.codec.inputs.keys() == {"source", "source_mask"}


def test_a_text_and_its_translation(tmp_path):
    write(tmp_path, train_en="a b a\nb\n", train_de="x\ny x\n", valid_en="a q\n", valid_de="x z\n")
    data = load(source="files", pair="en-de", path=str(tmp_path))
    assert data.tokenizers == (data.source, data.target)
    np.testing.assert_array_equal(
        data.codec.encode("b\n\n  \na a\n")["source"], [[5, 3, 0], [3, 0, 0], [3, 0, 0], [4, 4, 3]]
    )
    assert data.codec.decode({"tokens": np.array([[6, 7, 3], [3, 6, 7]])}) == {"lines": ["x y", ""]}
    (tmp_path / "lines.txt").write_text("b\n\na a\n")
    assert data.codec.read(tmp_path / "lines.txt") == "b\n\na a\n"
    with pytest.raises(UserError, match="the text has no line to translate"):
        data.codec.encode("\n \n")


def test_baselines(tmp_path):
    """Targets x, y x in training, of validation x z with the end: the counts of all tokens one after the other."""
    write(tmp_path, train_en="a b a\nb\n", train_de="x\ny x\n", valid_en="a q b\nb\n", valid_de="x z\ny\n")
    write(tmp_path, test_en="b b a c a\n", test_de="y\n")
    scored = []

    def longest(hypotheses, references):  # best of four words or more
        scored.append((hypotheses, references))
        return {"rougeL": min(4.0, max(len(line.split()) for line in hypotheses))}

    data = load(rouge=longest, source="files", pair="en-de", path=str(tmp_path))
    assert scored == []  # not before they are wanted
    baselines = data.baselines()
    counts = language_modelling.baselines(np.array([6, 3, 7, 6, 3]), np.array([6, 1, 3, 7, 3]), 8)
    assert baselines["valid/loss"] == (pytest.approx(counts), "nats/token")
    # Validation has three words at most, so four words are the first with the best score, and of the test four are taken.
    assert baselines["valid/rougeL"].values == {"the source's first 4 words": 3.0}
    assert baselines["test/rougeL"].values == {"the source's first 4 words": 4.0}
    assert scored[0] == (["a q", "b"], ["x z", "y"]) and scored[-1] == (["b b a c"], ["y"])
    assert list(load(source="files", pair="en-de", path=str(tmp_path)).baselines()) == ["valid/loss"]


def test_targets_have_a_length_of_their_own(tmp_path):
    write(tmp_path, train_en="a b a b a\nb\na b\n", train_de="x\ny x y\ny x\n", valid_en="a\n", valid_de="x y x y\n")
    where = dict(source="files", pair="en-de", path=str(tmp_path))
    data = load(**where, target_length=3)
    assert "left out 1 lines of train longer than 15 or, of a target, 2 tokens, 0 with an empty side" in data.report
    batch = data.parts["train"].gather(np.arange(2), length=8)
    assert {name: batch[name].shape[1] for name in ("source", "tokens", "targets")} == {
        "source": 8, "tokens": 3, "targets": 3,
    }  # fmt: skip
    np.testing.assert_array_equal(data.parts["valid"].gather(np.arange(1), length=4)["targets"], [[6, 7, 3]])
    with pytest.raises(UserError, match="data.target_length = 17: from 2, a token and the end, to data.length = 16"):
        load(**where, target_length=17)


def test_texts_are_restored_with_the_vocabulary_of_the_pairs(tmp_path):
    write(tmp_path, c_en="One cat. Two dogs!\na\n", c_de="x y z\nb\n")
    where = dict(
        source="files", pair="en-de", path=str(tmp_path / "c"), valid_fraction=0.5, tokenizer="bpe", vocab_size=300
    )
    data, pairs = load(**where, denoise=0.3), load(**where)
    assert data.source.to_json() == pairs.source.to_json()
    assert data.corpus.parts["train"].source == ["One cat. Two dogs!", "x y z"] == data.corpus.parts["train"].target
    batch = data.train.batch(0)
    assert (batch["source"] == data.source.special["mask"]).any() and data.evals["valid"].batch(0)["mask"].sum() == 2
    for change, told in {
        "both_ways": "leave data.both_ways None",
        "tokenizer": "data.tokenizer = 'byte' has no <eos>",
        "joint": "data.denoise reads what it writes: set model.shared=True",
    }.items():
        values = {"both_ways": True, "tokenizer": "byte", "joint": False}
        changed = {change: values[change]} | ({"vocab_size": None} if change == "tokenizer" else {})
        with pytest.raises(UserError, match=told):
            load(**where | {"denoise": 0.3} | changed)


@pytest.mark.parametrize("name", ["two files", "a .tsv"])
def test_one_part_is_cut(tmp_path, name):
    source, target = [f"a{i}" for i in range(10)], [f"x{i} y" for i in range(10)]
    if name == "a .tsv":
        (tmp_path / "c.tsv").write_text("".join(f"{a}\t{b}\r\n" for a, b in zip(source, target, strict=True)))
        path = tmp_path / "c.tsv"
    else:
        write(tmp_path, c_en="\n".join(source), c_de="\n".join(target) + "\n")
        path = tmp_path / "c"
    parts = load(source="files", pair="en-de", path=str(path), valid_fraction=0.2).corpus.parts
    assert parts["train"].source == source[:8] and parts["valid"].target == target[8:] and "test" not in parts


def test_learnt_pieces(tmp_path):
    write(
        tmp_path,
        train_zh="我爱你\n你好\n" * 20,
        train_en="I love you\nhello\n" * 20,
        valid_zh="你爱我\n",
        valid_en="you love me\n",
    )
    data = load(source="files", pair="zh-en", path=str(tmp_path), tokenizer="bpe", vocab_size=300)
    line = data.parts["valid"].gather(np.arange(1))
    assert data.codec.text(line["targets"][0]) == "you love me"
    assert data.source.decode(line["source"][0][:-1]) == "你爱我"


@pytest.mark.parametrize(
    "cfg, told",
    [
        ({"source": "wmt"}, "no parallel source 'wmt'"),
        ({"source": "numbers", "pair": "en-de"}, "data.pair = 'en-de'"),
        ({"source": "files"}, "data.path is not set"),
        ({"source": "files", "path": "absent"}, "cannot read absent.en"),
        ({"source": "files", "path": "short"}, "short.en has 2 lines and short.de 1"),
        ({"source": "files", "path": "short", "pair": "en"}, "data.pair = 'en': two different names"),
        ({"source": "files", "path": "bad.tsv"}, "bad.tsv, line 2: 1 fields"),
        ({"source": "files", "path": "latin"}, "latin.en as UTF-8 text: not UTF-8 (byte 0xe4 at 1)"),
        ({"source": "files", "path": "one"}, "no line in valid"),
        ({"source": "files", "path": "one", "valid_fraction": 1.0}, "valid_fraction = 1.0"),
        ({"source": "files", "path": "long", "valid_fraction": 0.5, "length": 3}, "no line of train has 1 to 2 tokens"),
        ({"source": "numbers", "pair": "digits-words", "tokenizer": "byte"}, "data.tokenizer = 'byte' has no <eos>"),
        ({"source": "numbers", "pair": "digits-words", "length": 1}, "data.length = 1"),
        ({"source": "numbers", "pair": "digits-words", "tokenizer": "bpe"}, "set data.vocab_size"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, cfg, told):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, short_en="a\nb\n", short_de="x\n", one_en="a\n", one_de="x\n", bad_tsv="a\tx\nb\n")
    write(tmp_path, long_en="a b c\nd\n", long_de="x y z\nw\n")
    (tmp_path / "latin.en").write_bytes(b"a\xe4\n")
    (tmp_path / "latin.de").write_bytes(b"a\n")
    with pytest.raises(UserError) as caught:
        load(**{"pair": "en-de"} | cfg)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.data
def test_multi30k_is_as_published(tmp_path, monkeypatch):
    """Wu et al. 2021: 29,000 / 1,014 / 1,000, 9,708 joint types; README-baseline: reflen=12103, and fairseq's four marks."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = load(source="multi30k_bpe", pair="en-de", length=64)
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 29_000, "valid": 1_014, "test": 1_000}
    assert data.target.size == 9_708 + 4
    test = data.corpus.parts["test"]
    words = [data.corpus.form.words(line) for line in test.target]
    assert bleu(words, words).reference_words == 12_103
    raw = parallel_corpora.load(track_reads(DEFAULTS | {"source": "multi30k", "pair": "en-de"})).parts["test"]
    prepared = [data.corpus.form.prepare(line) for line in raw.source]
    assert prepared == test.source  # raw English becomes the published pieces, all 1,000 lines
    back = bleu([data.corpus.form.restore(line) for line in words], test.raw, "13a", lowercase=True)
    assert back.value > 99.5


@pytest.mark.data
def test_news_titles():
    cfg = track_reads(DEFAULTS | {"source": "ag_news_titles", "pair": "description-title"})
    parts = parallel_corpora.load(cfg).parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 9_000, "valid": 999, "test": 1_000}
    assert parts["test"].target[0] == "Fears for T N pension after talks"


# Lines of the user's files


def test_lines_end_at_line_feeds_alone(tmp_path):
    odd = "a\u2028b\u0085c\x0cd"
    (tmp_path / "c.en").write_bytes(f"\ufeff{odd}\r\n\r\nz".encode())
    (tmp_path / "c.de").write_bytes(b"x\ny\nz\n")
    lines = parallel_corpora.load(
        {"source": "files", "path": str(tmp_path / "c"), "pair": "en-de", "valid_fraction": 0.3}
    )
    assert lines.parts["train"].source == [odd, ""] and lines.parts["valid"].source == ["z"]
    (tmp_path / "c.TSV").write_bytes(f'\ufeff"{odd}\tx\r\nb"\ty\n'.encode())
    lines = parallel_corpora.load(
        {"source": "files", "path": str(tmp_path / "c.TSV"), "pair": "en-de", "valid_fraction": 0.5}
    )
    assert lines.parts["train"].source == [f'"{odd}'] and lines.parts["valid"].source == ['b"']


def test_a_text_to_translate_has_as_many_lines_as_line_feeds(tmp_path):
    write(tmp_path, train_en="a b a\nb\n", train_de="x\ny x\n", valid_en="a q\n", valid_de="x z\n")
    data = load(source="files", pair="en-de", path=str(tmp_path))
    (tmp_path / "lines.txt").write_bytes("\ufeffone\r\n\r\nthree\u2028still\x0cthree\nfour\n".encode())
    assert len(data.codec.encode(data.codec.read(tmp_path / "lines.txt"))["source"]) == 4


def test_parts_of_other_names_are_read_and_other_files_named(tmp_path):
    write(tmp_path, train_en="a\nb\n", train_de="x\ny\n", dev_en="a\n", dev_de="x\n", notes_txt="n", tset_en="b")
    corpus = parallel_corpora.load({"source": "files", "path": str(tmp_path), "pair": "en-de"})
    assert {name: lines.source for name, lines in corpus.parts.items()} == {"train": ["a", "b"], "valid": ["a"]}
    assert corpus.report[1:4] == ["ignored  files that are no part: 2", "         notes.txt", "         tset.en"]
    (tmp_path / "valid.en").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"has the part valid as valid.\* and as dev.\*|has the part valid as dev.\*"):
        parallel_corpora.load({"source": "files", "path": str(tmp_path), "pair": "en-de"})
    for name in ("dev.en", "dev.de"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match="cannot read .*valid.en as UTF-8 text: No such file"):
        parallel_corpora.load({"source": "files", "path": str(tmp_path), "pair": "en-de"})


def test_what_a_target_begins_after(tmp_path):
    write(tmp_path, train_en="a b a\nb\n", train_de="x\ny x\n", valid_en="a q\n", valid_de="x z\n")
    where = dict(source="files", pair="en-de", path=str(tmp_path))
    for start, bos in ((None, 2), (0, 0), (7, 7)):
        data = load(**where, decoder_start=start)
        assert data.bos == bos and (data.parts["valid"].gather(np.arange(1))["tokens"][:, 0] == bos).all()
    for start in (-1, 8, True, "x"):
        with pytest.raises(UserError, match=f"data.decoder_start = {start!r}: the id of a token, from 0 to 7"):
            load(**where, decoder_start=start)


def test_a_vocabulary_without_a_begin_token_begins_after_padding(tmp_path):
    vocab = {word: i for i, word in enumerate(["</s>", "<unk>", "a", "x", "<pad>"])}
    made = hf.Tokenizer(hf.models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, c_en="a\na\n", c_de="x\nx\n")
    where = dict(source="files", pair="en-de", path=str(tmp_path / "c"), valid_fraction=0.5)
    assert load(**where, tokenizer=str(tmp_path / "tokenizer.json")).bos == 4
