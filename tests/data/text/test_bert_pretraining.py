"""Masked pairs of a corpus; texts with [MASK]s filled in."""

import math

import numpy as np
import pytest

from research.core import config
from research.core.config import track_reads
from research.data import tokenizers, user_files
from research.data.text import bert_pretraining
from research.util.errors import UserError


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.make("bpe", " the cat sat on the mat" * 30, vocab_size=300)


def test_the_same_pairs_validate_every_seed():
    cfg = track_reads(config.load("bert/tiny"))
    one, two = (bert_pretraining.load(cfg.data, seed) for seed in (0, 1))
    at = np.arange(20)
    valid, other = (data.evals["valid"].source for data in (one, two))
    assert all(np.array_equal(valid.gather(at)[k], v) for k, v in other.gather(at).items())
    assert not np.array_equal(one.train.source.gather(at)["tokens"], two.train.source.gather(at)["tokens"])
    # Documents of one part are in no other: the split is the corpus's.
    assert len(valid) < len(one.train.source)
    (baseline,) = one.baselines()["valid/mlm_loss"].values.values()
    assert 0 < baseline < math.log(one.tokenizer.size)


def test_a_text_with_masks_is_filled_in(tokenizer, tmp_path):
    special, file = tokenizer.special, tmp_path / "text.txt"
    file.write_text("the cat [MASK] on [MASK] mat\n")
    row = bert_pretraining.FilledMasks(tokenizer, 16).encode(user_files.read(file))
    cls, sep, mask = ([special[name]] for name in ("cls", "sep", "mask"))
    pieces = [tokenizer.encode(part).tolist() for part in ("the cat", " on", " mat")]
    assert row["tokens"][0].tolist() == cls + pieces[0] + mask + pieces[1] + mask + pieces[2] + sep
    assert not row["token_type_ids"].any() and row["token_mask"].all()

    logits = np.zeros((1, row["tokens"].shape[1], tokenizer.size), "f")
    sat, cat = (int(tokenizer.encode(word)[0]) for word in (" sat", " cat"))
    first, second = np.flatnonzero(row["tokens"][0] == special["mask"])
    logits[0, first, [sat, cat]] = 9.0, 8.0
    logits[0, second, cat] = 20.0
    said = bert_pretraining.FilledMasks(tokenizer, 16).decode({**row, "mlm": logits, "nsp": np.zeros((1, 2))})
    assert set(said) == {"masks"} and list(said["masks"][0])[:2] == [" sat", " cat"]
    rest = tokenizer.size - 2
    assert said["masks"][0][" sat"] == pytest.approx(math.e / (math.e + 1 + rest * math.exp(-8)), abs=1e-4)
    assert said["masks"][1][" cat"] == pytest.approx(1, abs=1e-3)


def test_two_texts_are_told_to_follow_or_not(tokenizer, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sat [SEP] on the mat")
    row = bert_pretraining.FilledMasks(tokenizer, 32).encode(user_files.read(file))
    seps = np.flatnonzero(row["tokens"][0] == tokenizer.special["sep"])
    assert len(seps) == 2 and seps[1] == row["tokens"].shape[1] - 1
    assert row["token_type_ids"][0].tolist() == [0] * (seps[0] + 1) + [1] * (seps[1] - seps[0])
    logits = np.zeros((1, row["tokens"].shape[1], tokenizer.size))
    said = bert_pretraining.FilledMasks(tokenizer, 32).decode(
        {**row, "mlm": logits, "nsp": np.array([[math.log(3), 0.0]])}
    )
    assert said == {"masks": [], "follows": 0.75}


@pytest.mark.parametrize(
    "words, message",
    [
        ("the cat", r"no \[MASK\] to fill in"),
        ("[MASK] cat" * 9, "tokens, more than the 16 of data.length"),
        ("", "no "),
    ],
)
def test_texts_that_cannot_be_filled_in(tokenizer, tmp_path, words, message):
    (tmp_path / "text.txt").write_text(words)
    with pytest.raises(UserError, match=message) as caught:
        bert_pretraining.FilledMasks(tokenizer, 16).encode(user_files.read(tmp_path / "text.txt"))
    assert "\n" not in str(caught.value)
