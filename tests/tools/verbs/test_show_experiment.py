"""An experiment as `almanac show` prints it."""

import os
import re
import subprocess
import sys

from tools import cli


def test_the_recipe_comes_first_then_the_defaults_then_what_is_not_set(capsys):
    assert cli.main(["show", "image_classification/tiny", "--config.augment.flip=0.5"]) == 0
    said = capsys.readouterr().out
    blocks = dict(re.findall(r"^(recipe[^\n]*|defaults|not set)\n((?:  [^\n]*\n)+)", said, re.MULTILINE))
    recipe, defaults, unset = blocks.values()
    assert list(blocks) == ["recipe", "defaults", "not set"]
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


def test_durations_are_given_in_steps(capsys):
    """1,439 of the digits train, so 45 steps of 32 are the 1,440 examples of an epoch: the nearest whole number of steps."""
    words = ["--config.data.batch_size=32", "--config.num_steps=2 epochs", "--config.optim.warmup=320 examples"]
    assert cli.main(["show", "image_classification/digits", *words]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^  num_steps +90 +2 epochs$", said, re.MULTILINE)
    assert re.search(r"^  optim.warmup +10 +320 examples$", said, re.MULTILINE)


def test_the_config_is_printed_before_jax_is_imported(tmp_path):
    """The imports and the data take a second or more; whoever asks what a config says need not wait for them."""
    (tmp_path / "jax.py").write_text("raise ImportError('no JAX here')")
    asked = "from tools import cli; cli.main(['show', 'image_classification/digits'])"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=env)
    assert "optim.peak_lr" in done.stdout and "parameters" not in done.stdout and "no JAX here" in done.stderr
