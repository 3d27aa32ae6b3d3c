import json

import pytest

from research.util.errors import UserError
from tools.verbs import list as listing


def test_lines_are_aligned_and_complete(house):
    house.configs["zoo/cat"] = {"seed": 0}
    configs = house.root / "experiments" / "toy" / "configs"
    configs.mkdir()
    (configs / "small.py").write_text('"""A small toy.\n\nMore of it.\n"""\nraise RuntimeError\n')
    house.results.mkdir(parents=True)
    (house.results / "run.json").write_text(json.dumps({"parameters": 803456}))
    assert listing.lines(root=house.root) == [
        "toy",
        "  small  803,456  test/error 1.5  1 min on 1 core  A small toy.",
        "  tiny         -  -               -",
        "",
        "zoo",
        "  cat          -  -               -",
    ]
    assert listing.lines("zoo", house.root) == ["zoo", "  cat  -  -  -"]


def test_unknown_family(house):
    with pytest.raises(UserError, match="no family 'toi'; did you mean 'toy'"):
        listing.lines("toi", house.root)
