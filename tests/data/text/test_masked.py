"""Next-sentence pairs and masked tokens: pure, of static shapes, and what the paper says of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data import tokenizers
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.data.text import corpora, masked
from research.data.text.masked import Documents, Masked, SegmentPairs
from research.data.tokenizers.wordpiece import WordPiece
from research.util.errors import UserError

PAD, UNK, CLS, SEP, MASK = range(5)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##x", "##y", ".", "一", "二", "。"]
PIECES = WordPiece(WORDS)


def numbered(sizes):
    """Documents whose sentences have so many tokens; every token of all is another."""
    lengths = [n for document in sizes for n in document]
    ends = np.cumsum([0, *map(len, sizes)])
    return Documents(np.arange(5, 5 + sum(lengths), dtype=np.int32), np.cumsum([0, *lengths]), ends)


class Numbered:
    """A tokenizer of so many tokens, for ids that mean nothing."""

    special = {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK}
    name = "numbered"

    def __init__(self, size):
        self.size = size


def segments(batch, row):
    """A and B, found by their separators."""
    tokens = batch["tokens"][row][batch["token_mask"][row] == 1]
    first, second = np.flatnonzero(tokens == SEP)
    assert tokens[0] == CLS and second == len(tokens) - 1
    return tokens[1:first], tokens[first + 1 : second]


def test_documents_by_hand():
    texts = ["ab. c <unk>!\n\nd <eos>\n", " \n", "一二。一"]
    found = masked.documents(texts, PIECES, {"<unk>": "unk", "<eos>": None})
    words = [[WORDS[i] for i in found.between(s, s + 1)] for s in range(len(found.sentences) - 1)]
    # "ab" is no piece and has none: [UNK]; "!" likewise. The blank text is gone.
    assert words == [["[UNK]", "."], ["c", "[UNK]", "[UNK]"], ["d"], ["一", "二", "。"], ["一"]]
    assert found.documents.tolist() == [0, 3, 5]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=8), min_size=2, max_size=6),
    length=st.integers(5, 24),
    seed=st.one_of(st.none(), st.integers(0, 99)),
    epoch=st.integers(0, 3),
)
def test_pairs_keep_to_their_documents(sizes, length, seed, epoch):
    found = numbered(sizes)
    pairs = SegmentPairs(found, length, Numbered(1000), seed, short=0.3)
    batch = pairs.gather(np.arange(len(pairs)), epoch)
    assert batch["tokens"].shape == batch["token_type_ids"].shape == batch["token_mask"].shape == (len(pairs), length)
    token_document = np.repeat(np.arange(len(sizes)), [sum(d) for d in sizes])
    for row in range(len(pairs)):
        a, b = segments(batch, row)
        of_a, of_b = (set(token_document[part - 5].tolist()) for part in (a, b))
        assert len(of_a) == len(of_b) == 1  # each of one document, and of neighbours in it
        assert (np.diff(a) == 1).all() and (np.diff(b) == 1).all()
        assert (of_a == of_b) == (batch["next"][row] == 0)
        if batch["next"][row] == 0:
            assert b[0] > a[-1]
        n = len(a) + len(b) + 3
        assert batch["token_mask"][row].tolist() == [1] * n + [0] * (length - n)
        want = [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (length - n)
        assert batch["token_type_ids"][row].tolist() == want
        assert (batch["tokens"][row, n:] == PAD).all()


def test_pairs_are_halves_and_cover_the_documents():
    found = numbered([[4] * 30] * 8)
    pairs = SegmentPairs(found, 23, Numbered(2000), seed=1, short=0.0)  # 5 sentences of 4 fill 20
    assert len(pairs) == 8 * 6
    batches = [pairs.gather(np.arange(len(pairs)), epoch) for epoch in range(40)]
    share = np.mean([b["next"].mean() for b in batches])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(40 * 48))
    follows = [(b, row) for b in batches[:5] for row in range(len(pairs)) if b["next"][row] == 0]
    for batch, row in follows:  # a turn is whole, and parted at a sentence
        a, b = segments(batch, row)
        assert len(a) + len(b) == 20 and len(a) % 4 == 0 and b[0] == a[-1] + 1
    seen = np.unique(np.concatenate([b["tokens"].ravel() for b in batches]))
    assert len(seen[seen >= 5]) == 8 * 30 * 4
    lengths = [
        b["token_mask"].sum(1) for b in [SegmentPairs(found, 23, Numbered(2000), 1, 1.0).gather(np.arange(48), 0)]
    ]
    assert lengths[0].min() < 12 <= lengths[0].max()


@pytest.mark.parametrize("whole_word", [False, True])
def test_a_draw_is_a_function_of_seed_epoch_and_example(whole_word):
    found = numbered([[4, 2, 9, 1] * 5] * 6)
    tokenizer = Numbered(2000)
    tokenizer.continues = np.arange(2000) % 3 == 0
    how = {"whole_word": whole_word}

    def source(seed):
        return Masked(SegmentPairs(found, 24, tokenizer, seed), tokenizer, seed, **how)

    whole = source(3).gather(np.arange(12), 2)
    some = source(3).gather(np.array([7, 2]), 2)
    for name in whole:
        np.testing.assert_array_equal(some[name], whole[name][[7, 2]])
    for other in (source(4).gather(np.arange(12), 2), source(3).gather(np.arange(12), 1)):
        assert (other["tokens"] != whole["tokens"]).any() and (
            other["masked_positions"] != whole["masked_positions"]
        ).any()
    fixed = [source(None).gather(np.arange(12), epoch) for epoch in (0, 5)]
    for name in fixed[0]:
        np.testing.assert_array_equal(fixed[0][name], fixed[1][name])
    stream, sweep = TrainBatches(source(3), 8, 3), EvalBatches(source(None), 8)
    assert stream.spec["masked_positions"].shape == stream.spec["targets"].shape == (8, round(0.15 * 24))
    assert sweep.batch(0)["mask"].shape == (8,) and sweep.batch(0)["token_mask"].shape == (8, 24)


def test_masking_is_eighty_ten_ten():
    n, T, V = 400, 100, 1000
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, V, (n, T)).astype(np.int32)
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    tokens[:, 90:99] = PAD
    inside = (tokens != PAD).astype(np.float32)
    data = Masked(Arrays({"tokens": tokens, "token_mask": inside}), Numbered(V), seed=0)
    batch = data.gather(np.arange(n), 0)
    P = data.predictions
    assert P == 15 and batch["target_mask"].sum(1).tolist() == [14] * n  # round(0.15 x 91)
    drawn = batch["target_mask"] == 1
    places = batch["masked_positions"]
    assert (np.diff(places[:, :14]) > 0).all()
    before, after = (np.take_along_axis(t, places, 1)[drawn] for t in (tokens, batch["tokens"]))
    np.testing.assert_array_equal(batch["targets"][drawn], before)
    assert before.min() >= 5  # never a special token
    hidden, same = (after == MASK).mean(), (after == before).mean()
    assert hidden == pytest.approx(0.8, abs=0.025) and same == pytest.approx(0.1, abs=0.02)
    strange = after[(after != MASK) & (after != before)]
    assert strange.min() >= 5 and len(np.unique(strange)) > 300
    untouched = np.ones((n, T), bool)
    np.put_along_axis(untouched, places, False, 1)
    np.testing.assert_array_equal(batch["tokens"][untouched], tokens[untouched])
    share = np.bincount(places[drawn], minlength=T)[1:90] / n
    assert share.mean() == pytest.approx(14 / 89) and share.std() < 3 * np.sqrt(14 / 89 / n)
    np.testing.assert_array_equal(tokens[:, 90:99], PAD)  # the source's own arrays are left alone


def test_fewer_predictions_and_short_rows():
    tokens = np.array([[CLS, 7, SEP, PAD], [CLS, SEP, PAD, PAD]], np.int32)
    inside = (tokens != PAD).astype(np.float32)
    batch = Masked(Arrays({"tokens": tokens, "token_mask": inside}), Numbered(9), 0, predictions=2).gather(np.arange(2))
    assert batch["target_mask"].tolist() == [[1, 0], [0, 0]]  # at least one, where there is one
    assert (batch["masked_positions"][0].tolist(), batch["targets"][0].tolist()) == ([1, 0], [7, 0])
    windows = Arrays({"tokens": np.full((3, 40), 6, np.int32)})  # no mask: all count
    assert Masked(windows, Numbered(9), 0, rate=0.5, predictions=4).gather(np.arange(3))["target_mask"].sum() == 12


def test_whole_words_are_drawn_together():
    row = PIECES.encode("a b xx axyx c dyy e f gx h a b c d e f")
    a, x, y = (WORDS.index(w) for w in ("a", "##x", "##y"))
    assert row[3:7].tolist() == [a, x, y, x]
    data = Masked(Arrays({"tokens": np.tile(row, (300, 1))}), PIECES, seed=0, rate=0.3, whole_word=True)
    batch = data.gather(np.arange(300), 0)
    words = np.cumsum(~PIECES.continues[row]) - 1
    sizes = np.bincount(words)
    for places, weights in zip(batch["masked_positions"], batch["target_mask"], strict=True):
        drawn, counts = np.unique(words[places[weights == 1]], return_counts=True)
        np.testing.assert_array_equal(counts, sizes[drawn])
        assert 0 < counts.sum() <= data.predictions == round(0.3 * len(row))
    assert any((batch["targets"] == y).any(1))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SegmentPairs(numbered([[3]] * 2), 4, Numbered(9)), "data.length = 4: at least 5"),
        (lambda: SegmentPairs(numbered([[3, 4]]), 9, Numbered(9)), r"1 document\(s\)"),
        (lambda: SegmentPairs(numbered([[3]] * 2), 9, tokenizers.make("char", "a")), "'char' has no <pad>"),
        (lambda: SegmentPairs(numbered([[3]] * 2), 9, Numbered(9), short=2), "data.short = 2"),
        (
            lambda: Masked(Arrays({"tokens": np.zeros((1, 4), int)}), tokenizers.make("byte", "")),
            "'byte' has no <mask>",
        ),
        (lambda: Masked(Arrays({"tokens": np.zeros((1, 4), int)}), Numbered(9), rate=0), "data.mask_rate = 0"),
        (lambda: Masked(Arrays({"tokens": np.zeros((1, 4), int)}), Numbered(9), predictions=0), "data.predictions = 0"),
        (lambda: Masked(Arrays({"tokens": np.zeros((1, 4), int)}), Numbered(9), whole_word=True), "'wordpiece' does"),
    ],
)
def test_mistakes_are_named(make, told):
    with pytest.raises(UserError, match=told):
        make()


@pytest.mark.data
def test_wikitext2_as_bert_sees_it():
    corpus = corpora.load({"source": "wikitext2"})
    wordpiece = tokenizers.make("wordpiece", "")
    found = masked.documents(corpus.valid, wordpiece, corpus.marks)
    assert len(found) == 60
    first = wordpiece.decode(found.between(0, 2))
    assert (
        first
        == "= homarus gammarus = homarus gammarus , known as the european lobster or common lobster , is a "
        + ("species of [UNK] lobster from the eastern atlantic ocean , mediterranean sea and parts of the black sea .")
    )
    data = Masked(SegmentPairs(found, 128, wordpiece, 0), wordpiece, 0, whole_word=True)
    batch = data.gather(np.arange(32), 0)
    assert batch["tokens"].shape == (32, 128) and batch["masked_positions"].shape == (32, 19)
    hidden = (batch["tokens"] == 103).sum(1)
    assert 0.08 < hidden.sum() / batch["token_mask"].sum() < 0.16
