"""Cleaning, and duplicates: nothing that differs is lost, and no twin crosses the split."""

import json
import random
import unicodedata

import datasketch
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from research.data.text import clean, corpora
from research.util.errors import UserError


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("cafe\u0301", "café"),  # NFC
        ("a\r\nb\rc\u2028d\x85e\x0cf", "a\nb\nc\nd\ne\nf"),
        ("a\x00b\x1b[0m\x07\x7f\x9c", "ab[0m"),
        ("  a \u00a0\t b\u3000c  \n\n\n\n  d \n", "a b c\n\nd"),
        ("\ufeffa\ufeffb", "ab"),
        ("👩‍👩‍👧 می‌خواهم क्‍ष", "👩‍👩‍👧 می‌خواهم क्‍ष"),  # joiners mean something
        (" \n\x00 ", ""),
    ],
)
def test_normalise_by_hand(text, want):
    assert clean.normalise(text) == want


@given(st.text())
@example("a \n\x00\n \n b")
@example("\u0344\x00\u0301")
def test_normalise_is_idempotent_and_keeps_what_can_be_seen(text):
    once = clean.normalise(text)
    assert clean.normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not [c for c in once if unicodedata.category(c) == "Cc" and c != "\n"]

    def seen(text):
        kept = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Zs", "Zl", "Zp") and c != "\ufeff")
        return unicodedata.normalize("NFD", kept)

    assert sorted(seen(once)) == sorted(seen(text))


def jaccard(a, b):
    """By Python's sets."""
    a, b = (" ".join(t.casefold().split()).ljust(5) for t in (a, b))
    a, b = ({t[i : i + 5] for i in range(len(t) - 4)} for t in (a, b))
    return len(a & b) / len(a | b)


def test_similarity_is_that_of_sets():
    a = "the quick brown fox jumps over the lazy dog and the quick brown cat"
    for b in (a, a[:-3] + "cow", a.upper(), "道可道，非常道。名可名，非常名。", "the slow brown fox"):
        assert clean.jaccard(clean.shingles(a), clean.shingles(b)) == pytest.approx(jaccard(a, b))
    assert clean.jaccard(clean.shingles("ab"), clean.shingles("ab")) == 1
    assert clean.jaccard(clean.shingles("ab"), clean.shingles("ac")) == 0


def texts(n, size, seed):
    rng = random.Random(seed)
    return ["".join(rng.choice("abcdefghij klmnopqrst") for _ in range(size)) for _ in range(n)]


def test_exact_keeps_the_first():
    assert clean.exact(["b", "a", "b ", "b", "a"]) == [clean.Duplicate(3, 0, 1.0), clean.Duplicate(4, 1, 1.0)]


def test_near_finds_what_brute_force_finds():
    """Every document, compared with all before it that are kept; similarities on both sides of the threshold."""
    rng = random.Random(0)
    found = []
    for text in texts(8, 400, 1):
        found.append(text)
        for changes in (1, 4, 8, 9, 12, 30):  # each takes five of 396 shingles away and adds five
            letters = list(text)
            for at in rng.sample(range(0, 400, 6), changes):
                letters[at] = "Z"
            found.append("".join(letters))
    rng.shuffle(found)
    found += [found[5], found[20]]
    kept, want = [], {}
    for i, text in enumerate(found):
        of = next((k for k in kept if jaccard(text, found[k]) >= 0.8), None)
        if of is None:
            kept.append(i)
        else:
            want[i] = (of, jaccard(text, found[of]))
    got = {twin.index: twin for twin in clean.near(found)}
    assert got.keys() == want.keys() and 15 < len(want) < 45
    for i, (_, similarity) in want.items():
        assert got[i].of not in got  # of a document that stays
        assert got[i].similarity == pytest.approx(jaccard(found[i], found[got[i].of]))
        assert similarity >= 0.8


def test_near_in_chinese():
    a = "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。故常無欲，以觀其妙；常有欲，以觀其徼。"
    b = "天下皆知美之為美，斯惡已。皆知善之為善，斯不善已。故有無相生，難易相成，長短相較，高下相傾。"
    assert [t.index for t in clean.near([a, b, a.replace("徼", "竅"), b * 2])] == [
        2,
        3,
    ]  # b twice: no shingle new but few


def test_no_validation_document_has_a_twin_in_training(tmp_path):
    unique = texts(40, 200, 2)
    rows = unique[:20] + [t.upper() for t in unique[:5]] + ["x\x00" + t[:-1] for t in unique[5:10]] + unique[10:12]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in [*unique[20:], *unique[:3]]))
    (tmp_path / "c.txt").write_text(unique[30])
    cfg = {"source": "files", "path": str(tmp_path), "valid_fraction": 0.5}
    every = corpora.load(cfg)
    assert set(every.train) & set(every.valid)  # there would be twins
    one = corpora.load(cfg | {"deduplicate": "exact"})
    assert not set(one.train) & set(one.valid)
    assert len(one.train + one.valid) == 20 + 5 + 5 + 20
    assert "twins    6 of 56 documents left out: 6 the same" in one.report
    assert "         a.jsonl line 31 = a.jsonl line 11 (100%)" in one.report
    near = corpora.load(cfg | {"deduplicate": "near", "clean": True})
    assert len(near.train + near.valid) == 40
    assert max(jaccard(a, b) for a in near.train for b in near.valid) < 0.8
    assert any(line.startswith("cleaned  ") for line in near.report)
    assert [line for line in near.report if line.startswith("twins    16 of 56 documents left out: ")]
    assert len(near.report) < 24
    again = corpora.load(cfg | {"deduplicate": "near", "clean": True})
    assert (again.train, again.valid, again.report) == (near.train, near.valid, near.report)


def test_a_large_document_is_sketched_in_parts():
    text = texts(1, 60_000, 3)[0]
    runs = clean.shingles(text)
    assert len(runs) > 2 * clean._PART
    whole = datasketch.MinHash(num_perm=125, seed=1, hashfunc=int)
    whole.update_batch((runs >> np.uint64(32)).tolist())
    np.testing.assert_array_equal(clean._sketch(runs).hashvalues, whole.hashvalues)


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"source": "files", "deduplicate": "nearly"}, "data.deduplicate = 'nearly'; did you mean 'near'?"),
        ({"source": "pydoc", "clean": True}, "data.clean = True is for the source 'files'"),
        ({"source": "pydoc", "deduplicate": "exact"}, "data.deduplicate = 'exact' is for the source 'files'"),
    ],
)
def test_mistakes_are_named(tmp_path, cfg, told):
    (tmp_path / "a.txt").write_text("some text")
    with pytest.raises(UserError) as caught:
        corpora.load({"path": str(tmp_path)} | cfg)
    assert told in str(caught.value)


def test_what_cleaning_leaves_empty_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("\x07\x1b \n\x07")
    with pytest.raises(UserError, match="0 characters to train"):
        corpora.load({"source": "files", "path": str(tmp_path), "clean": True})
