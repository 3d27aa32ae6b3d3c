"""An experiment as `almanac show` prints it."""

import re

from tools import cli


def test_the_recipe_comes_first_then_the_defaults_then_what_is_not_set(capsys):
    assert cli.main(["show", "image_classification/tiny", "--config.augment.flip=0.5"]) == 0
    said = capsys.readouterr().out
    blocks = dict(re.findall(r"^(recipe[^\n]*|defaults|not set)\n((?:  [^\n]*\n)+)", said, re.MULTILINE))
    recipe, defaults, unset = blocks.values()
    assert list(blocks) == ["recipe (durations in steps)", "defaults", "not set"]
    keys = {line.split()[0]: line.split(maxsplit=1)[1] for line in recipe.splitlines()}
    assert keys["model.depth"] == "8" and keys["augment.flip"] == "0.5" and keys["num_steps"] == "12"
    assert "seed " in defaults and "num_steps" not in defaults and "None" not in defaults
    assert "data.path" in unset and "model.depth" not in unset


def test_parameters_and_cost(capsys):
    """A perceptron by hand: two products of 64 x 8 and 8 x 10 an image; their backward passes, without the first one's inputs."""
    words = ["--config.model.name=mlp", "--config.model.hidden=(8,)"]
    assert cli.main(["show", "image_classification/digits", *words]) == 0
    said = capsys.readouterr().out
    assert f"{64 * 8 + 8 + 8 * 10 + 10:,} parameters" in said
    flops = 64 * 2 * (2 * 64 * 8 + 3 * 8 * 10)
    assert f"{flops / 1e9:,.3f} GFLOP a step" in said
