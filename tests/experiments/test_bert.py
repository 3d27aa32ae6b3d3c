"""BERT's two tasks by hand arithmetic, texts filled in, and an encoder moved into another model."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from experiments.bert import train as family
from research.core import config, mesh, metrics, state
from research.core.config import track_reads
from research.data import tokenizers, user_files
from research.run import reopen
from research.util.errors import UserError
from tools import cli

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.make("bpe", " the cat sat on the mat" * 30, vocab_size=300)


def test_the_loss_is_the_sum_of_both_tasks():
    logits = {"mlm": rng.normal(size=(3, 2, 5)).astype("f"), "nsp": rng.normal(size=(3, 2)).astype("f")}
    targets, weights, follows = (
        np.array([[1, 4], [0, 0], [2, 3]]),
        np.array([[1, 1], [1, 0], [1, 1]]),
        np.array([0, 1, 1]),
    )
    batch = {"targets": targets, "target_mask": weights.astype("f"), "next": follows}
    mlm = -np.take_along_axis(log_softmax(logits["mlm"], -1), targets[..., None], -1)[..., 0]
    nsp = -np.take_along_axis(log_softmax(logits["nsp"], -1), follows[:, None], -1)[:, 0]
    scalar, pairs = family.scores(logits, batch, jnp.ones(3))
    values = metrics.reduce([pairs])
    assert values["mlm_loss"] == pytest.approx((mlm * weights).sum() / 5, rel=1e-5)
    assert values["nsp_loss"] == pytest.approx(nsp.mean(), rel=1e-5)
    assert values["mlm_accuracy"] == pytest.approx(((logits["mlm"].argmax(-1) == targets) * weights).sum() / 5)
    assert values["nsp_accuracy"] == pytest.approx((logits["nsp"].argmax(-1) == follows).mean())
    assert float(scalar) == values["loss"] == pytest.approx(values["mlm_loss"] + values["nsp_loss"], rel=1e-6)
    # The second row fills up a batch: nothing of it counts.
    values = metrics.reduce([family.measure(logits, {**batch, "mask": jnp.array([1.0, 0.0, 1.0])})])
    assert values["mlm_loss"] == pytest.approx(mlm[[0, 2]].mean(), rel=1e-5)
    assert values["nsp_loss"] == pytest.approx(nsp[[0, 2]].mean(), rel=1e-5)


def test_the_same_pairs_validate_every_seed():
    cfg = track_reads(config.load("bert/tiny"))
    one, two = (family.load(cfg.data, seed) for seed in (0, 1))
    at = np.arange(20)
    assert all(np.array_equal(one.valid.gather(at)[k], v) for k, v in two.valid.gather(at).items())
    assert not np.array_equal(one.train.gather(at)["tokens"], two.train.gather(at)["tokens"])
    # Documents of one part are in no other: the split is the corpus's.
    assert len(one.valid) < len(one.train) and 0 < one.unigram < math.log(one.tokenizer.size)


def test_a_text_with_masks_is_filled_in(tokenizer, tmp_path):
    special, file = tokenizer.special, tmp_path / "text.txt"
    file.write_text("the cat [MASK] on [MASK] mat\n")
    row = family.encode(tokenizer, 16, user_files.read(file))
    cls, sep, mask = ([special[name]] for name in ("cls", "sep", "mask"))
    pieces = [tokenizer.encode(part).tolist() for part in ("the cat", " on", " mat")]
    assert row["tokens"][0].tolist() == cls + pieces[0] + mask + pieces[1] + mask + pieces[2] + sep
    assert not row["segments"].any() and row["token_mask"].all()

    logits = np.zeros((1, row["tokens"].shape[1], tokenizer.size), "f")
    sat, cat = (int(tokenizer.encode(word)[0]) for word in (" sat", " cat"))
    first, second = np.flatnonzero(row["tokens"][0] == special["mask"])
    logits[0, first, [sat, cat]] = 9.0, 8.0
    logits[0, second, cat] = 20.0
    said = family.decode(tokenizer, {**row, "mlm": logits, "nsp": np.zeros((1, 2))})
    assert set(said) == {"masks"} and list(said["masks"][0])[:2] == [" sat", " cat"]
    rest = tokenizer.size - 2
    assert said["masks"][0][" sat"] == pytest.approx(math.e / (math.e + 1 + rest * math.exp(-8)), abs=1e-4)
    assert said["masks"][1][" cat"] == pytest.approx(1, abs=1e-3)


def test_two_texts_are_told_to_follow_or_not(tokenizer, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sat [SEP] on the mat")
    row = family.encode(tokenizer, 32, user_files.read(file))
    seps = np.flatnonzero(row["tokens"][0] == tokenizer.special["sep"])
    assert len(seps) == 2 and seps[1] == row["tokens"].shape[1] - 1
    assert row["segments"][0].tolist() == [0] * (seps[0] + 1) + [1] * (seps[1] - seps[0])
    logits = np.zeros((1, row["tokens"].shape[1], tokenizer.size))
    said = family.decode(tokenizer, {**row, "mlm": logits, "nsp": np.array([[math.log(3), 0.0]])})
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
        family.encode(tokenizer, 16, user_files.read(tmp_path / "text.txt"))
    assert "\n" not in str(caught.value)


def test_a_pre_trained_encoder_moves_into_another_model_by_path(tmp_path):
    small = ["--config.num_steps=2", "--config.optim.warmup=1", "--config.eval_every=2"]
    assert cli.main(["train", "bert/tiny", f"--workdir={tmp_path / 'run'}", *small]) == 0
    _, theirs, _ = reopen.load(tmp_path / "run", "last")
    words = [
        f"pretrained.weights={tmp_path / 'run'}",
        "pretrained.fresh=^head/",
        "pretrained.resize=tokens",
        "data.vocab_size=320",
    ]
    e = reopen.build("token_labelling", config.load("token_labelling/tiny", words))
    fresh = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    lines: list[str] = []
    ours = e.load_pretrained(fresh, SimpleNamespace(note=lines.append, writes=False))
    jax.tree.map(np.testing.assert_array_equal, ours.params["encoder"], theirs.params["encoder"])
    jax.tree.map(np.testing.assert_array_equal, ours.params["head"], fresh.params["head"])
    report = "\n".join(lines)
    assert f"{len(jax.tree.leaves(ours.params['encoder']))} arrays" in report
    assert "fresh    head/bias, head/kernel" in report and "left out mlm/" in report
