"""What `build` made of a config, and what a caller made of that."""

import dataclasses
import json

from research.core import config
from research.run import reopen
from tools.verbs import train


def test_what_the_config_does_not_tell_is_recorded(tmp_path, capsys):
    e = reopen.build("language_model/tiny", config.load("language_model/tiny", ["num_steps=3", "eval_every=0"]))
    assert e.replaced == [] and dataclasses.replace(e, ema=e.ema).replaced == []
    other = dataclasses.replace(e, split_metrics=lambda values: values)
    assert dataclasses.replace(other, ema=0.5).replaced == ["split_metrics", "ema"]
    train.trainer("language_model/tiny")(other, tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["attempts"][-1]["changed"] == ["split_metrics: replaced in Python"]
    assert "replaced in Python, so that the config does not tell it: split_metrics" in capsys.readouterr().out
