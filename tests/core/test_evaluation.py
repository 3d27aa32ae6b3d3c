"""Which splits are measured, and when."""

from types import SimpleNamespace

import pytest

from research.core import config, evaluation
from research.util.errors import UserError


def experiment(*words, measured=None, at_end=()):
    cfg = config.merge(config.family_defaults(eval_every=10))
    for word in words:
        config.override(cfg, *word.split("=", 1))
    splits = ["valid", "test"] if measured is None else measured
    evals = dict.fromkeys(["valid", "test"])
    return SimpleNamespace(cfg=config.track_reads(cfg), splits=splits, evals=evals, at_end=at_end)


@pytest.mark.parametrize(
    "words, more, want",
    [
        ([], {}, {"valid": 10, "test": 10}),
        (["evals.test.every=None"], {}, {"valid": 10}),
        (["evals.test.every=50", "eval_every=5"], {}, {"valid": 5, "test": 50}),
        (["evals.test.every=50"], {"measured": ["valid"]}, {"valid": 10, "test": 50}),
        (["evals.beam.every=20"], {"measured": ["valid"], "at_end": ["beam"]}, {"valid": 10, "beam": 20}),
    ],
)
def test_intervals(words, more, want):
    assert evaluation.intervals(experiment(*words, **more)) == want


def test_an_interval_may_be_a_duration():
    e = experiment("evals.test.every=2 epochs")
    e.cfg = e.cfg.in_steps(100, 20)
    assert evaluation.intervals(e)["test"] == 10


def test_a_split_that_there_is_not():
    with pytest.raises(UserError, match=r"evals.tset: there is no such split; did you mean 'test'\?"):
        evaluation.intervals(experiment("evals.tset.every=5"))


@pytest.mark.parametrize(
    "word", ["evals.test=5", "evals.test.every=often", "evals.test.every=-1", "evals.test.every=2.5"]
)
def test_an_interval_that_is_none(word):
    with pytest.raises(
        UserError, match=r"evals.test = .*: set evals.test.every to steps, a text such as '3 epochs', or None"
    ):
        evaluation.intervals(experiment(word))


def test_every_key_of_a_split_is_read():
    e = experiment("evals.test.every=5", "evals.test.evry=5")
    evaluation.intervals(e)
    assert "evals.test.evry" in e.cfg.unread() and "evals.test.every" not in e.cfg.unread()
