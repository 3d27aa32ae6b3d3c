"""A model's keys are its module's fields."""

import dataclasses
import importlib

import pytest

from research.core import config
from research.nn import model_keys
from research.run import reopen
from research.util.errors import UserError

PATHS = sorted(
    {
        path
        for family in config.families()
        for paths in getattr(importlib.import_module(f"experiments.{family}.configs.base"), "MODELS", {}).values()
        for path in ([paths] if isinstance(paths, str) else paths)
    }
    | {f"research.models.text.{name}" for name in ("bert.Encoder", "transformer.Transformer", "in_context.Regressor")}
)


@pytest.mark.parametrize("path", PATHS)
def test_the_source_says_what_the_class_does(path):
    module, _, name = path.rpartition(".")
    fields = dataclasses.fields(getattr(importlib.import_module(module), name))
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    assert model_keys.fields(path) == {k: v for k, v in defaults.items() if k not in ("name", "parent")}


def test_fields_that_are_inherited_and_fields_that_are_no_keys(tmp_path, monkeypatch):
    (tmp_path / "some_models.py").write_text(
        "class Base(Module):\n"
        "    size: int\n"
        "    width: int = 3  # D\n"
        "    layer: ClassVar[type] = None\n"
        "    init: Initializer = normal(0.02)\n"
        "class Deep(Base):\n"
        "    width: int = 5\n"
        "    windows: tuple[int, ...] = (2, 3)\n"
        "    scale: float | None = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert model_keys.fields("some_models.Base") == {"width": 3}
    assert model_keys.fields("some_models.Deep") == {"width": 5, "windows": (2, 3), "scale": None}
    assert model_keys.fields("some_models.Deep", without=("scale",)) == {"width": 5, "windows": (2, 3)}


def test_a_group_is_that_of_the_model_that_is_named():
    models = {"mlp": "research.models.vision.lenet.MLP", "lenet5": "research.models.vision.lenet.LeNet5"}
    assert model_keys.of_model(models, {}, "lenet5") == dict(name="lenet5", channels=(6, 16), hidden=(120, 84), pad=2)
    assert model_keys.of_model(models, {"model": {"name": "mlp", "dropout": 0.5}}, "lenet5")["dropout"] == 0.0
    with pytest.raises(UserError, match=r"model.name = 'lenet'; did you mean 'lenet5'\?"):
        model_keys.of_model(models, {"model": {"name": "lenet"}}, "mlp")


@pytest.mark.parametrize("family", sorted(config.families()))
def test_configs_and_the_train_loop_know_the_same_models(family):
    base = importlib.import_module(f"experiments.{family}.configs.base")
    train = reopen.family(family)
    own = getattr(train, "models", None)  # the family's model.py
    known = getattr(train, "MODELS", None) or getattr(train, "NETWORKS", None) or getattr(own, "MODELS", {})
    assert set(known) == set(getattr(base, "MODELS", {}))
