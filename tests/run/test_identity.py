"""A checkpoint says which run saved it; one of another run, config or step is told by name."""

import json

import pytest

from research.run import identity
from research.run.identity import Identity

CONFIG = {"seed": 0, "mesh": {"data": -1}, "betas": (0.9, 0.99), "keep": 3}
RUN = Identity("run", "now", frozenset({"before", "now"}))


def test_where_arrays_lie_is_no_part_of_a_config():
    was = identity.digest(CONFIG)
    assert was == identity.digest({**CONFIG, "mesh": {"data": 2}, "keep": 9}) != identity.digest({**CONFIG, "seed": 1})
    assert was == identity.digest(json.loads(json.dumps(CONFIG)))  # a tuple is a list in JSON
    assert len(was) == 16


@pytest.mark.parametrize(
    "saved, why",
    [
        ({"step": 5, "run": "run", "config": "now"}, ""),
        ({"step": 5, "run": "run", "config": "before"}, ""),
        ({"step": 5}, ""),  # of a folder that was no run's
        (None, ""),  # from before checkpoints said so
        ({"step": 4, "run": "run", "config": "now"}, "it was saved as step 4, and its folder says 5"),
        ({"step": 5, "run": "other", "config": "now"}, "it was saved by another run (other; this one is run)"),
        ({"step": 5, "run": "run", "config": "x"}, "with another config (x), which none of this run's attempts had"),
        ({}, "it was saved as step None, and its folder says 5"),
    ],
)
def test_what_does_not_belong(saved, why):
    problem = identity.problem(saved, 5, RUN)
    assert why in problem and bool(why) == bool(problem)


def test_a_folder_that_is_no_run_knows_the_step_alone():
    assert identity.problem({"step": 5, "run": "other", "config": "x"}, 5, None) == ""
    assert "folder says 5" in identity.problem({"step": 4, "run": "other", "config": "x"}, 5, None)


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{", '{"config": {}}', '{"run": 1, "config": 2, "attempts": 3}', "[" * 99999]
)
def test_no_identity_in_what_is_no_run(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert identity.of_run(tmp_path) is None


def test_a_run_from_before_ids_takes_any():
    assert identity.problem({"step": 5, "run": "other", "config": "x"}, 5, RUN._replace(run=None)) == ""


def test_of_a_run(tmp_path):
    about = {"run": "ab", "config": CONFIG, "attempts": [{"step": 0, "config": "x"}, {"step": 4, "config": "y"}]}
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert identity.of_run(tmp_path) == Identity("ab", identity.digest(CONFIG), frozenset("xy"))
