"""A run of an earlier version of its family."""

import json

import pytest

from research.core import config
from research.run import reopen
from research.util.nested import flatten


@pytest.fixture
def old(tmp_path):
    """A run's config.json, as it was before the family had a key that is None, and a group of such keys."""

    def make(*gone):
        cfg = json.loads(config.load("language_model/tiny").to_json())
        for key in gone:
            *groups, last = key.split(".")
            inner = cfg
            for group in groups:
                inner = inner[group]
            del inner[last]
        (tmp_path / "config.json").write_text(json.dumps({"config": cfg}))
        return tmp_path

    return make


def test_what_the_family_has_come_to_know_since_is_none(old):
    now = config.load("language_model/tiny")
    assert now.data.path is None and now.pretrained.weights is None
    found = reopen.load_config(old("data.path", "pretrained"))
    assert flatten(found) == flatten(now)
    assert reopen.build(found.name, found).cfg.to_dict() == reopen.build(now.name, now).cfg.to_dict()


def test_a_value_is_not_made_up(old):
    found = reopen.load_config(old("data.length"))
    assert "length" not in found.data
