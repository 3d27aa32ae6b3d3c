"""Configs of earlier versions."""

import pytest

from research.core import config, upgrade
from research.util.errors import UserError


def test_a_renamed_group_keeps_its_values():
    old = {"seed": 3, "init": {"weights": "gpt2", "into": None}}
    assert upgrade.upgrade(old, 0) == {"seed": 3, "pretrained": {"weights": "gpt2", "into": None}}
    assert old == {"seed": 3, "init": {"weights": "gpt2", "into": None}}
    assert upgrade.of_file({"config": old, "config_version": 1}) == old  # of today: nothing is renamed
    assert upgrade.of_file({"config": old})["pretrained"]["weights"] == "gpt2"


def test_a_key_is_moved_into_another_group(monkeypatch):
    monkeypatch.setattr(upgrade, "VERSION", 2)
    monkeypatch.setattr(upgrade, "RENAMED", {1: {"init": "pretrained"}, 2: {"pretrained.into": "load.path", "a": "b"}})
    assert upgrade.upgrade({"init": {"into": "x"}, "a": 1}, 0) == {"pretrained": {}, "load": {"path": "x"}, "b": 1}
    assert upgrade.upgrade({"a": 1, "load": {"path": 1}}, 1) == {"b": 1, "load": {"path": 1}}
    assert upgrade.upgrade_key("init.into") == "load.path" and upgrade.upgrade_key("initial") == "initial"


def test_a_newer_version_is_refused():
    with pytest.raises(UserError, match="of version 99, this Almanac knows"):
        upgrade.upgrade({}, 99)


def test_an_override_and_a_config_of_yesterday_are_mapped_and_say_so(capsys):
    cfg = config.load("gan/tiny", ["init.weights=there"])
    assert cfg.pretrained.weights == "there" and "init" not in cfg
    assert capsys.readouterr().err == "almanac: config key init.weights is pretrained.weights now\n"
    merged = config.merge({"pretrained": {"weights": None}}, init={"weights": "there"})
    assert merged.pretrained.weights == "there"
    assert capsys.readouterr().err == "almanac: config key init is pretrained now\n"


def test_a_key_that_was_none_or_absent_has_the_default_of_its_time():
    model = {"name": "cnn", "width": 16, "dropout": None, "hidden": None, "maps": 8}
    old = {"name": "text_classification/tiny", "model": model}
    new = {"name": "cnn", "width": 16, "windows": (3, 4, 5), "maps": 8, "dropout": 0.5}
    assert upgrade.upgrade(old, 1)["model"] == upgrade.upgrade(old, 0)["model"] == new
    assert upgrade.upgrade(old, 2)["model"] == {**model, "windows": (3, 4, 5)}  # None is a value by then


@pytest.mark.parametrize("name", config.names())
def test_every_key_of_a_model_has_a_first_default(name):
    """A field that a module gets is absent from every config before: research/core/first_defaults.py says what it was then."""
    today = config.plain(config.load(name))
    bare = {**today, "model": {key: today["model"][key] for key in ("name",) if key in today["model"]}}
    filled = config.flatten(upgrade.upgrade(bare, 2))
    assert set(config.flatten(today)) <= set(filled), f"{name}: a key without a first default"


def test_the_model_that_had_no_name_has_one():
    old = {"name": "language_model/tiny", "model": {"name": None, "width": 8, "kv_heads": None, "experts": None}}
    new = upgrade.upgrade(old, 1)["model"]
    assert (new["name"], new["width"], new["kv_heads"], new["experts"]) == ("gpt", 8, None, 1)


def test_groups_of_two_networks_are_filled_and_unknown_keys_stay():
    model = {"name": "mlp", "latent": 2, "generator": {"width": None, "own": 1}, "discriminator": {"norm": None}}
    new = upgrade.upgrade({"name": "gan/tiny", "model": model}, 1)["model"]
    assert new["generator"] == {"width": 400, "num_layers": 4, "own": 1}
    assert new["discriminator"] == {"width": 200, "pieces": 5, "num_layers": 3}
    for other in ({"name": "my_family/tiny", "model": model}, {"name": "gan/tiny", "model": 3}, {"model": model}):
        assert upgrade.upgrade(other, 1) == other
